package mnet

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"

	"github.com/google/go-cmp/cmp"
)

// remote is a peer that answers whatever a test wants.
type remote struct {
	peer   *gateway.Peer
	key    *Key
	answer http.HandlerFunc
}

// newRemote starts a peer on loopback, with a fresh key for its wwwroot.
func newRemote(t *testing.T) *remote {
	r := &remote{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) { r.answer(w, request) }))
	t.Cleanup(server.Close)
	r.peer = &gateway.Peer{Wwwroot: wwwroot(t, server.URL), Application: gateway.Moodle, Publish: []string{gateway.ServiceSSOIDP}}
	var err error
	if r.key, err = NewKey(r.peer.Wwwroot, time.Now(), DefaultLifetime); err != nil {
		t.Fatal(err)
	}
	return r
}

func newClient(t *testing.T) *Client {
	return &Client{Keys: keysOf(recordedKey(t, "sp")), Site: wwwroot(t, "http://sp.test:8090")}
}

func TestAClientAndAServerUnderstandEachOther(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	server := &Server{
		Site: r.peer.Wwwroot, Keys: keysOf(r.key), Replays: &nonces{seen: map[[32]byte]bool{}},
		Peer: func(context.Context, string) (*gateway.Peer, *gateway.Certificate, error) {
			return &gateway.Peer{Wwwroot: c.Site, Publish: []string{"s"}}, c.Keys()[0].Certificate(), nil
		},
		Methods: []Method{
			{Name: "a/reverse", Service: "s", Call: func(_ context.Context, c *Call) (Value, error) { return Array{c.Params[1], c.Params[0]}, nil }},
			{Name: "a/refuse", Service: "s", Call: func(context.Context, *Call) (Value, error) { return nil, &Fault{Code: 2, String: "no"} }},
		},
	}
	r.answer = func(w http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/mnet/xmlrpc/server.php" || request.Header.Get("Content-Type") != "text/xml" || request.UserAgent() != "Jumpgate" {
			t.Errorf("request for %s with %v", request.URL, request.Header)
		}
		server.ServeHTTP(w, request)
	}
	v, err := c.Call(t.Context(), r.peer, r.key.Certificate(), "a/reverse", "é", 7)
	if diff := cmp.Diff(Array{7, "é"}, v); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	_, err = c.Call(t.Context(), r.peer, r.key.Certificate(), "a/refuse")
	if fault, ok := errors.AsType[*Fault](err); !ok || fault.Code != 2 || fault.Unauthenticated {
		t.Errorf("refused call: %v", err)
	}
	_, err = c.Call(t.Context(), r.peer, recordedKey(t, "stranger").Certificate(), "a/reverse")
	if fault, ok := errors.AsType[*Fault](err); !ok || fault.Code != FaultNotOpened || !fault.Unauthenticated {
		t.Errorf("a call for the wrong key: %v", err)
	}
	cert, err := c.Keyswap(t.Context(), r.peer.Wwwroot, gateway.Moodle)
	if err != nil || cert.Fingerprint() != r.key.Certificate().Fingerprint() {
		t.Errorf("keyswap: %v", err)
	}
}

func TestAClientAcceptsValidAnswersOnly(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	now := time.Unix(1795336536, 0)
	c.Now = func() time.Time { return now }
	sp, stranger := c.Keys()[0], recordedKey(t, "stranger")
	me, other := r.peer.Wwwroot, wwwroot(t, "http://other.test")
	ok := EncodeResponse("ok")
	sign := func(doc []byte, key *Key, from gateway.Wwwroot, at time.Time) []byte {
		signed, err := Sign(doc, key, from, at)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	fault := EncodeFault(&Fault{Code: 7021, String: "no"})
	for name, c2 := range map[string]struct {
		answer []byte
		err    string // "" for a value
		plain  bool   // a fault that anybody may have written
	}{
		"valid":                      {envelope(t, ok, r.key, sp, me, now), "", false},
		"15 seconds ahead":           {envelope(t, ok, r.key, sp, me, now.Add(15*time.Second)), "", false},
		"5 minutes old":              {envelope(t, ok, r.key, sp, me, now.Add(-5*time.Minute)), "", false},
		"16 seconds ahead":           {envelope(t, ok, r.key, sp, me, now.Add(16*time.Second)), "16s ahead", false},
		"older than 5 minutes":       {envelope(t, ok, r.key, sp, me, now.Add(-301*time.Second)), "5m1s old", false},
		"signed by somebody else":    {envelope(t, ok, stranger, sp, me, now), "pinned key", false},
		"sealed for somebody else":   {envelope(t, ok, r.key, stranger, me, now), "none of our keys", false},
		"from somebody else":         {envelope(t, ok, r.key, sp, other, now), "claims to be", false},
		"from somebody else inside":  {seal(t, sign(ok, r.key, other, now), sp, me), "claims to be", false},
		"from somebody else outside": {seal(t, sign(ok, r.key, me, now), sp, other), "claims to be", false},
		"not signed":                 {seal(t, ok, sp, me), "not signed", false},
		"a fault that is not signed": {seal(t, fault, sp, me), "fault 7021", true},
		"not sealed":                 {sign(ok, r.key, me, now), "not sealed", false},
		"a fault that is not sealed": {sign(fault, r.key, me, now), "fault 7021", true},
		"plain":                      {ok, "not sealed", false},
		"a plain fault":              {fault, "fault 7021", true},
		"a page":                     {[]byte("<html><body>Login</body></html>"), "not sealed: this is no message of MNet: it is a page", false},
		"nothing":                    {nil, "not sealed", false},
		"a proper fault":             {envelope(t, fault, r.key, sp, me, now), "fault 7021", false},
		"no XML-RPC":                 {envelope(t, []byte("<x/>"), r.key, sp, me, now), "unexpected <x>", false},
		"too large":                  {[]byte(strings.Repeat(" ", MaxBody+1)), "more than", false},
	} {
		r.answer = func(w http.ResponseWriter, _ *http.Request) { w.Write(c2.answer) }
		v, err := c.Call(t.Context(), r.peer, r.key.Certificate(), "a/b")
		f, isFault := errors.AsType[*Fault](err)
		switch {
		case c2.err == "" && (v != "ok" || err != nil):
			t.Errorf("an answer %s: %v, %v", name, v, err)
		case c2.err != "" && (err == nil || !strings.Contains(err.Error(), c2.err)):
			t.Errorf("an answer %s: %v, %v; want an error about %q", name, v, err, c2.err)
		case isFault && f.Unauthenticated != c2.plain, isFault != strings.HasPrefix(c2.err, "fault"):
			t.Errorf("an answer %s: fault %v", name, f)
		}
	}
}

func TestAClientTakesAnAnswerOnce(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	now := time.Unix(1795336536, 0)
	c.Now = func() time.Time { return now }
	me := r.peer.Wwwroot
	ask := func(answer []byte) (Value, error) {
		r.answer = func(w http.ResponseWriter, _ *http.Request) { w.Write(answer) }
		return c.Call(t.Context(), r.peer, r.key.Certificate(), "a/b")
	}
	signed, err := Sign(EncodeResponse("ok"), r.key, me, now)
	if err != nil {
		t.Fatal(err)
	}
	answer, refusal := seal(t, signed, c.Keys()[0], me), envelope(t, EncodeFault(&Fault{Code: 1}), r.key, c.Keys()[0], me, now)
	forged := envelope(t, EncodeResponse("ok"), recordedKey(t, "stranger"), c.Keys()[0], me, now)

	if v, err := ask(answer); v != "ok" || err != nil {
		t.Errorf("an answer: %v, %v", v, err)
	}
	now = now.Add(time.Minute)
	if v, err := ask(answer); err == nil || !strings.Contains(err.Error(), "copy of an earlier one") {
		t.Errorf("a replayed answer: %v, %v", v, err)
	}
	if v, err := ask(seal(t, signed, c.Keys()[0], me)); v != "ok" || err != nil {
		t.Errorf("the same answer, sealed anew by the peer: %v, %v", v, err)
	}
	if _, err := ask(refusal); err == nil || !strings.Contains(err.Error(), "fault 1") {
		t.Errorf("a fault: %v", err)
	}
	if _, err := ask(refusal); err == nil || !strings.Contains(err.Error(), "copy of an earlier one") {
		t.Errorf("a replayed fault: %v", err)
	}
	for range 2 { // what anybody can send takes no room
		if _, err := ask(forged); !errors.Is(err, ErrBadSignature) {
			t.Errorf("a forged answer: %v", err)
		}
	}
	if n := len(c.answers.recent); n != 3 {
		t.Errorf("%d answers are remembered, not 3", n)
	}
}

func TestTheMemoryOfAnswersIsBounded(t *testing.T) {
	var s seen
	nonce := func(i int) (n [32]byte) {
		binary.BigEndian.PutUint32(n[:], uint32(i))
		return n
	}
	for i := range 3 * seenAnswers {
		if !s.add(nonce(i)) {
			t.Fatalf("answer %d was there already", i)
		}
		if last := max(0, i-seenAnswers+1); s.add(nonce(last)) {
			t.Fatalf("after answer %d, answer %d is forgotten", i, last)
		}
	}
	if n := len(s.recent) + len(s.older); n > 2*seenAnswers {
		t.Errorf("%d answers are kept", n)
	}
}

func TestAClientFollowsNoRedirectAndTakesNoErrorPage(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	for _, status := range []int{302, 307, 404, 500, 503} {
		asked := 0
		r.answer = func(w http.ResponseWriter, _ *http.Request) {
			asked++
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		}
		_, err := c.Call(t.Context(), r.peer, r.key.Certificate(), "a/b")
		if refused, ok := errors.AsType[*StatusError](err); !ok || refused.Status != status || asked != 1 {
			t.Errorf("status %d: %v after %d requests", status, err, asked)
		}
	}
}

func TestAnErrorQuotesNothingOfABrokenAnswer(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nSet-Cookie: MoodleSession=secret\x01\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Key: secret\x01\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: http://[secret\r\n\r\n",
	} {
		r.answer = func(w http.ResponseWriter, request *http.Request) {
			io.Copy(io.Discard, request.Body)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, answer)
		}
		_, call := c.Call(t.Context(), r.peer, r.key.Certificate(), "a/b")
		_, fetch := c.FetchCertificate(t.Context(), r.peer)
		for _, err := range []error{call, fetch} {
			if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), r.peer.Wwwroot.String()) {
				t.Errorf("%q: %v", answer, err)
			}
		}
		if _, err := c.Title(t.Context(), r.peer.Wwwroot); err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.answer = func(_ http.ResponseWriter, request *http.Request) {
		io.Copy(io.Discard, request.Body)
		cancel()
		<-request.Context().Done()
	}
	if _, err := c.Call(ctx, r.peer, r.key.Certificate(), "a/b"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestACertificateIsFetchedOnlyWhereItCanBeTrusted(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	key := r.key
	other, err := NewKey(wwwroot(t, "http://other.test"), time.Now(), DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	var serve http.Handler
	r.answer = func(w http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/mnet/publickey.php" || request.Method != http.MethodGet {
			http.NotFound(w, request)
			return
		}
		serve.ServeHTTP(w, request)
	}
	text := func(s string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) })
	}
	for name, c2 := range map[string]struct {
		serve http.Handler
		edit  func(*gateway.Peer)
		err   string
	}{
		"over loopback":              {PublicKey(keyFunc(key)), nil, ""},
		"with the right fingerprint": {PublicKey(keyFunc(key)), func(p *gateway.Peer) { p.Fingerprint = key.Certificate().Fingerprint() }, ""},
		"with another fingerprint":   {PublicKey(keyFunc(key)), func(p *gateway.Peer) { p.Fingerprint[0] = 1 }, key.Certificate().Fingerprint().String()},
		"of another site":            {PublicKey(keyFunc(other)), nil, "names another site"},
		"that is a page":             {text("<html>"), nil, "no PEM certificate"},
		"that is huge":               {text(strings.Repeat(" ", maxFile+1) + key.Certificate().PEM()), nil, "more than"},
		"that moved":                 {http.RedirectHandler("http://other.test/", http.StatusFound), nil, "status 302"},
		"over plain http from afar":  {PublicKey(keyFunc(key)), func(p *gateway.Peer) { p.Wwwroot = wwwroot(t, "http://sp.test") }, "without TLS"},
	} {
		serve = c2.serve
		peer := *r.peer
		if c2.edit != nil {
			c2.edit(&peer)
		}
		cert, err := c.FetchCertificate(t.Context(), &peer)
		switch {
		case c2.err == "" && (err != nil || cert.Fingerprint() != key.Certificate().Fingerprint()):
			t.Errorf("a certificate %s: %v", name, err)
		case c2.err != "" && (err == nil || !strings.Contains(err.Error(), c2.err)):
			t.Errorf("a certificate %s: error %v, want one about %q", name, err, c2.err)
		}
	}
}

func TestMaharaIsAskedByKeyswap(t *testing.T) {
	r, c := newRemote(t), newClient(t)
	r.peer.Application = gateway.Mahara
	r.answer = func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		method, params, err := DecodeCall(body)
		want := []Value{c.Site.String(), c.Keys()[0].Certificate().PEM(), "mahara"}
		if diff := cmp.Diff(want, params); request.URL.Path != "/api/xmlrpc/server.php" || method != "system/keyswap" || diff != "" {
			t.Errorf("%s %s %v\n%s", request.URL, method, err, diff)
		}
		w.Write(EncodeResponse(r.key.Certificate().PEM()))
	}
	if cert, err := c.FetchCertificate(t.Context(), r.peer); err != nil || cert.Fingerprint() != r.key.Certificate().Fingerprint() {
		t.Errorf("%v", err)
	}
	r.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Write(EncodeFault(&Fault{Code: 6012, String: "networking is off"}))
	}
	_, err := c.FetchCertificate(t.Context(), r.peer)
	if fault, ok := errors.AsType[*Fault](err); !ok || fault.Code != 6012 || !fault.Unauthenticated {
		t.Errorf("%v", err)
	}
}

func TestAnUnverifiedTLSConnectionIsNotUsed(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	server.Config.ErrorLog = nil
	t.Cleanup(server.Close)
	peer := &gateway.Peer{Wwwroot: wwwroot(t, server.URL)}
	c := newClient(t)
	if _, err := c.FetchCertificate(t.Context(), peer); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v", err)
	}
	c.HTTP = server.Client() // trusts it
	if _, err := c.FetchCertificate(t.Context(), peer); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("%v", err)
	}
}
