package main

import (
	"bytes"
	"crypto/sha1" // the wire's
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodletest"
	"jumpgate/web"
)

// hostile is a gateway under attack: a real one, with a real Redis, and two
// peers whose keys the attacker may use as far as a test says so.
type hostile struct {
	*federation
	certificate *gateway.Certificate // the home's
	other       gateway.Wwwroot      // a second peer
	otherKey    *mnet.Key
}

func newHostile(t *testing.T, more ...string) *hostile {
	r := startRedis(t)
	h := &hostile{other: wwwroot(t, "https://other.example")}
	var err error
	if h.otherKey, err = mnet.NewKey(h.other, time.Now(), time.Hour); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "other.pem")
	writeFile(t, file, h.otherKey.Certificate().PEM())
	h.federation = newFederation(t, setting{
		redis: r.url(), identity: "{source: moodle-redis, prefix: mdl_, mfa: false}",
		sessions: moodletest.Sessions{Redis: r.Client, Prefix: "mdl_"},
		peers:    fmt.Sprintf("- {wwwroot: %q, certificate: %q, %s}", h.other, file, strings.Join(more, ", ")),
	})
	pem := newVisitor(t).follow(h.IDP + "/mnet/publickey.php").page
	if h.certificate, err = gateway.ParseCertificate([]byte(pem)); err != nil {
		t.Fatal(err)
	}
	return h
}

// message is a call as some peer makes it, with whatever an attacker changes.
type message struct {
	from  gateway.Wwwroot
	outer gateway.Wwwroot // zero: from
	by    *mnet.Key
	at    time.Time
	doc   []byte
}

func (h *hostile) seal(t *testing.T, m message) []byte {
	t.Helper()
	signed, err := mnet.Sign(m.doc, m.by, m.from, m.at)
	if err != nil {
		t.Fatal(err)
	}
	if m.outer.IsZero() {
		m.outer = m.from
	}
	sealed, err := mnet.Seal(signed, h.certificate, m.outer)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// send posts a message and returns the fault that it is answered with, opened
// with whatever key of a peer fits.
func (h *hostile) send(t *testing.T, doc []byte) (status int, answer []byte, fault *mnet.Fault) {
	t.Helper()
	res, err := http.Post(h.IDP+"/mnet/xmlrpc/server.php", "text/xml", bytes.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if answer, err = io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	body := answer
	if sealed, err := mnet.ParseSealed(body); err == nil {
		opened, err := sealed.Open(h.forumKey, h.otherKey)
		if err != nil {
			t.Fatal(err)
		}
		body = opened.Plaintext
	}
	if signed, err := mnet.ParseSigned(body); err == nil {
		body = signed.Payload
	}
	_, err = mnet.DecodeResponse(body)
	fault, _ = errors.AsType[*mnet.Fault](err)
	return res.StatusCode, answer, fault
}

// token takes a learner as far as the landing and returns the token.
func (h *hostile) token(t *testing.T) string {
	t.Helper()
	v := newVisitor(t).follow(h.IDP+"/login/index.php").login(h.Username, h.Password)
	_, rest, _ := strings.Cut(v.stopAt(h.SP, h.DeepLink), "token=")
	token, _, _ := strings.Cut(rest, "&")
	return token
}

// browserHash is what a peer says about the browser of newVisitor.
func browserHash() string {
	sum := sha1.Sum([]byte("Mozilla/5.0 (visitor)"))
	return hex.EncodeToString(sum[:])
}

// Each hostile message has its answer and its record, and changes nothing for
// the learners of the peer that it claims to be from.
func TestHostileCallsHaveTheirAnswerAndTheirRecord(t *testing.T) {
	h := newHostile(t)
	forum := wwwroot(t, h.SP)
	now := time.Now()
	list := mnet.EncodeCall("system/listServices")
	proper := message{from: forum, by: h.forumKey, at: now, doc: list}
	authorise := func(token, browser string) []byte {
		return mnet.EncodeCall("auth/mnet/auth.php/user_authorise", token, browser)
	}
	stranger, err := mnet.NewKey(forum, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	replayed := h.seal(t, proper)
	if _, _, fault := h.send(t, replayed); fault != nil {
		t.Fatalf("a proper call: %v", fault)
	}
	redeemed := h.token(t)
	if _, _, fault := h.send(t, h.seal(t, message{from: forum, by: h.forumKey, at: now, doc: authorise(redeemed, browserHash())})); fault != nil {
		t.Fatalf("a proper redemption: %v", fault)
	}
	expired := h.token(t)
	h.age(t)
	with := func(change func(*message)) []byte {
		m := proper
		change(&m)
		return h.seal(t, m)
	}
	many := make([]mnet.Value, 100_000)
	for i := range many {
		many[i] = ""
	}
	for _, attack := range []struct {
		name   string
		doc    []byte
		status int
		fault  int // 0: none
		reason string
	}{
		{"a message that was recorded", replayed, 200, mnet.FaultUnknown, "replay"},
		{"a token that was redeemed", with(func(m *message) { m.doc = authorise(redeemed, browserHash()) }), 200, mnet.FaultNoSession, "token-unknown"},
		{"a token of another peer", with(func(m *message) { m.from, m.by, m.doc = h.other, h.otherKey, authorise(h.token(t), browserHash()) }), 200, mnet.FaultNoSession, "token-of-another-peer"},
		{"a token of another browser", with(func(m *message) { m.doc = authorise(h.token(t), strings.Repeat("0", 40)) }), 200, mnet.FaultNoSession, "token-of-another-browser"},
		{"a token that is too old", with(func(m *message) { m.doc = authorise(expired, browserHash()) }), 200, mnet.FaultSessionTimedOut, "token-expired"},
		{"a message of tomorrow", with(func(m *message) { m.at = now.Add(24 * time.Hour) }), 200, mnet.FaultUnknown, "timestamp"},
		{"a message of yesterday", with(func(m *message) { m.at = now.Add(-24 * time.Hour) }), 200, mnet.FaultUnknown, "timestamp"},
		{"a message of two senders", with(func(m *message) { m.outer = h.other }), 200, mnet.FaultBadSignature, "wwwroot-mismatch"},
		{"a message with the key of another peer", with(func(m *message) { m.by = h.otherKey }), 200, mnet.FaultBadSignature, "bad-signature"},
		{"a message with a new key of nobody's", with(func(m *message) { m.by = stranger }), 200, mnet.FaultBadSignature, "bad-signature"},
		{"a message of nobody", with(func(m *message) { m.from = wwwroot(t, "https://nobody.example") }), 200, mnet.FaultUnknownPeer, "unknown-peer"},
		{"a call in the clear", list, 200, mnet.FaultPlaintext, "not-sealed"},
		{"an entity bomb", []byte(`<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><methodCall><methodName>&b;</methodName></methodCall>`), 400, 0, "malformed"},
		{"an entity bomb in an envelope", with(func(m *message) {
			m.doc = []byte(`<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">]><methodCall><methodName>&a;</methodName><params/></methodCall>`)
		}), 200, mnet.FaultUnknown, "malformed"},
		{"100,000 parameters", with(func(m *message) { m.doc = mnet.EncodeCall("system/listServices", many...) }), 413, 0, "too-large"},
		{"11,000 parameters", with(func(m *message) { m.doc = mnet.EncodeCall("system/listServices", many[:11_000]...) }), 200, mnet.FaultUnknown, "malformed"},
		{"a method of a service that is not published", with(func(m *message) { m.doc = mnet.EncodeCall("auth/mnet/auth.php/kill_child", "ada", "x") }), 200, mnet.FaultNoMethod, "unknown-method"},
		{"somebody else's learner", with(func(m *message) {
			m.from, m.by, m.doc = h.other, h.otherKey, mnet.EncodeCall("auth/mnet/auth.php/kill_children", h.Username, browserHash())
		}), 200, 0, "not-their-learner"},
	} {
		t.Run(attack.name, func(t *testing.T) {
			before := h.counted(t, attack.reason)
			status, _, fault := h.send(t, attack.doc)
			code := 0
			if fault != nil {
				code = fault.Code
			}
			if status != attack.status || code != attack.fault {
				t.Errorf("status %d, %v; want %d, fault %d", status, fault, attack.status, attack.fault)
			}
			if got := h.counted(t, attack.reason); got != before+1 {
				t.Errorf("%v of reason %s are counted, want %v", got, attack.reason, before+1)
			}
			if !strings.Contains(h.log.String(), "reason="+attack.reason) {
				t.Errorf("the log says nothing of %s", attack.reason)
			}
		})
	}
	t.Run("good and bad padding", func(t *testing.T) {
		sealedFor := func(doc, key []byte) []byte {
			return []byte("<encryptedMessage><CipherValue>" + base64.StdEncoding.EncodeToString(doc) + "</CipherValue><CipherValue>" +
				base64.StdEncoding.EncodeToString(key) + "</CipherValue><wwwroot>" + h.SP + "</wwwroot></encryptedMessage>")
		}
		good := bytes.Replace(h.seal(t, proper), []byte("<CipherValue>"), []byte("<CipherValue>AAAA"), 1) // RSA fits, RC4 gives garbage
		bad := sealedFor(make([]byte, 400), append(make([]byte, 255), 7))
		goodStatus, goodAnswer, _ := h.send(t, good)
		badStatus, badAnswer, fault := h.send(t, bad)
		if goodStatus != badStatus || !bytes.Equal(goodAnswer, badAnswer) || fault == nil || fault.Code != mnet.FaultNotOpened {
			t.Errorf("%d %s\n%d %s", goodStatus, goodAnswer, badStatus, badAnswer)
		}
	})
	t.Run("a new key that nobody vouches for", func(t *testing.T) {
		// Somebody on the way answers for the forum, and says in its name that
		// it has another key.
		answer := mnet.EncodeFault(&mnet.Fault{Code: mnet.FaultNewKey, String: stranger.Certificate().PEM()})
		h.answerAsForum(t, stranger, answer)
		defer h.forumRPC.Store(nil)
		for range 2 {
			if _, _, fault := h.send(t, with(func(m *message) { m.by = stranger })); fault == nil || fault.Code != mnet.FaultBadSignature {
				t.Errorf("%v", fault)
			}
		}
	})
	t.Run("a flood that claims a known peer", func(t *testing.T) {
		garbage := []byte("<encryptedMessage><CipherValue>" + base64.StdEncoding.EncodeToString(make([]byte, 64)) + "</CipherValue><CipherValue>" +
			base64.StdEncoding.EncodeToString(append(make([]byte, 255), 7)) + "</CipherValue><wwwroot>" + h.other.String() + "</wwwroot></encryptedMessage>")
		refused := 0
		for range 2000 {
			if status, _, _ := h.send(t, garbage); status == http.StatusServiceUnavailable {
				refused++
			}
		}
		if refused == 0 {
			t.Error("2000 messages are all opened")
		}
		newVisitor(t).follow(h.DeepLink).login(h.Username, h.Password).reads(h.scene, h.Username)
	})
	newVisitor(t).follow(h.DeepLink).login(h.Username, h.Password).reads(h.scene, h.Username)
}

// age makes every token older than it may be.
func (h *hostile) age(t *testing.T) {
	t.Helper()
	client := h.gateway.Load().redis.Client()
	keys, err := client.Keys(t.Context(), "*:token:*").Result()
	if err != nil || len(keys) == 0 {
		t.Fatalf("%d tokens, %v", len(keys), err)
	}
	for _, key := range keys {
		record, err := client.Get(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, ok := strings.Cut(record, " ") // when it ends is in front
		if !ok {
			t.Fatalf("the record of a token is %s", record)
		}
		aged := strconv.FormatInt(time.Now().Add(-time.Second).UnixMicro(), 10) + " " + rest
		if err := client.Set(t.Context(), key, aged, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// counted returns how many calls the metrics count for a reason.
func (h *hostile) counted(t *testing.T, reason string) (n float64) {
	t.Helper()
	w := httptest.NewRecorder()
	web.NewAdmin(h.gateway.Load().metrics, func() string { return "" }).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.SplitSeq(w.Body.String(), "\n") {
		if !strings.HasPrefix(line, "jumpgate_rpc_total{") || !strings.Contains(line, fmt.Sprintf("reason=%q", reason)) {
			continue
		}
		count, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		n += count
	}
	return n
}

// answerAsForum answers all calls of the forum, signed with a key.
func (h *hostile) answerAsForum(t *testing.T, by *mnet.Key, doc []byte) {
	t.Helper()
	signed, err := mnet.Sign(doc, by, wwwroot(t, h.SP), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := mnet.Seal(signed, h.certificate, wwwroot(t, h.SP))
	if err != nil {
		t.Fatal(err)
	}
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(sealed) })
	h.forumRPC.Store(&answer)
}
