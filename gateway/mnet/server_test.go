package mnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"jumpgate/gateway"

	"github.com/google/go-cmp/cmp"
)

// nonces is a Replays in memory.
type nonces struct {
	mu   sync.Mutex
	seen map[[32]byte]bool
	err  error
}

func (n *nonces) Replayed(_ context.Context, nonce [32]byte) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	seen := n.seen[nonce]
	n.seen[nonce] = true
	return seen, n.err
}

// site is a Server under test: the recorded idp with the peers sp (which may
// call its methods), sp2 (which may not), new.test (without a certificate) and
// broken.test (whose lookup fails).
type site struct {
	*Server
	t       testing.TB
	now     time.Time
	replays *nonces
	events  []Event
}

const (
	echo   = "test/lib.php/echo"
	refuse = "test/lib.php/refuse"
	fail   = "test/lib.php/fail"
	once   = "test/lib.php/once"
)

func newSite(t testing.TB) *site {
	s := &site{t: t, now: time.Unix(1795336536, 0), replays: &nonces{seen: map[[32]byte]bool{}}}
	moodle := func(name string, publish ...string) *gateway.Peer {
		return &gateway.Peer{Wwwroot: wwwroot(t, name), Publish: publish, Subscribe: []string{gateway.ServiceSSOSP}}
	}
	peers := map[string]*gateway.Peer{}
	for _, p := range []*gateway.Peer{
		moodle("http://sp.test:8090", gateway.ServiceSSOIDP), moodle("http://sp2.test"), moodle("http://new.test"),
	} {
		peers[p.Wwwroot.String()] = p
	}
	certs := map[string]*gateway.Certificate{
		"http://sp.test:8090": recordedKey(t, "sp").Certificate(),
		"http://sp2.test":     recordedKey(t, "sp2").Certificate(),
	}
	s.Server = &Server{
		Site: wwwroot(t, "http://idp.test:8080"),
		Keys: keysOf(recordedKey(t, "idp"), recordedKey(t, "sp2-old")),
		Peer: func(_ context.Context, name string) (*gateway.Peer, *gateway.Certificate, error) {
			if name == "http://broken.test" {
				return nil, nil, errors.New("secret detail")
			}
			return peers[name], certs[name], nil
		},
		Methods: []Method{
			{Name: echo, Service: gateway.ServiceSSOIDP, MinParams: 1, Call: func(_ context.Context, c *Call) (Value, error) {
				return Array{c.Peer.Wwwroot.String(), c.Param(0), c.Param(5), c.Addr.String()}, nil
			}},
			{Name: refuse, Service: gateway.ServiceSSOIDP, Call: func(context.Context, *Call) (Value, error) {
				return nil, fmt.Errorf("wrapped: %w", &Fault{Code: FaultNoSession, String: "no session"})
			}},
			{Name: fail, Service: gateway.ServiceSSOIDP, Call: func(context.Context, *Call) (Value, error) {
				return nil, errors.New("secret detail")
			}},
			{Name: once, Service: gateway.ServiceSSOIDP, ChecksReplay: true, Call: func(ctx context.Context, c *Call) (Value, error) {
				if seen, _ := s.replays.Replayed(ctx, c.Nonce); seen {
					return nil, ErrReplayed
				}
				return "ok", nil
			}},
		},
		Replays: s.replays,
		Now:     func() time.Time { return s.now },
		Observe: func(_ context.Context, e Event) { s.events = append(s.events, e) },
	}
	return s
}

// post sends a body from an address and returns the answer and its event.
func (s *site) post(doc []byte, addr string) (*httptest.ResponseRecorder, Event) {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/mnet/xmlrpc/server.php", bytes.NewReader(doc))
	r.RemoteAddr = addr
	return s.send(r)
}

func (s *site) send(r *http.Request) (*httptest.ResponseRecorder, Event) {
	s.t.Helper()
	w := httptest.NewRecorder()
	before := len(s.events)
	s.ServeHTTP(w, r)
	if len(s.events) != before+1 {
		s.t.Fatalf("%d events for one request", len(s.events)-before)
	}
	return w, s.events[before]
}

const home = "192.0.2.1:1234"

// call is a proper call of sp.
func (s *site) call(method string, params ...Value) []byte {
	s.t.Helper()
	return envelope(s.t, EncodeCall(method, params...), recordedKey(s.t, "sp"), recordedKey(s.t, "idp"), wwwroot(s.t, "http://sp.test:8090"), s.now)
}

// read undoes the envelope of an answer. How it was packed is "plain",
// "signed", "sealed" or "signed and sealed".
func (s *site) read(body []byte, to string) (packed string, v Value, err error) {
	s.t.Helper()
	var layers []string
	if rootOf(body) == "encryptedmessage" {
		sealed, err := ParseSealed(body)
		if err != nil {
			s.t.Fatal(err)
		}
		opened, err := sealed.Open(recordedKey(s.t, to))
		if err != nil {
			s.t.Fatal(err)
		}
		body, layers = opened.Plaintext, append(layers, "sealed")
	}
	if rootOf(body) == "signedmessage" {
		signed, err := ParseSigned(body)
		if err != nil {
			s.t.Fatal(err)
		}
		by := "signed"
		switch {
		case signed.Verify(s.Keys()[0].Certificate()) == nil:
		case signed.Verify(s.Keys()[1].Certificate()) == nil:
			by = "signed with the old key"
		default:
			s.t.Error("an answer is signed by somebody else")
		}
		if signed.Wwwroot != s.Site.String() || !signed.Timestamp.Equal(s.now) {
			s.t.Errorf("answer of %s at %s", signed.Wwwroot, signed.Timestamp)
		}
		body, layers = signed.Payload, append([]string{by}, layers...)
	}
	v, err = DecodeResponse(body)
	if len(layers) == 0 {
		return "plain", v, err
	}
	return strings.Join(layers, " and "), v, err
}

func TestAProperCallIsAnswered(t *testing.T) {
	s := newSite(t)
	w, event := s.post(s.call(echo, "hällo"), home)
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/xml; charset=utf-8" {
		t.Errorf("status %d, %v", w.Code, w.Header())
	}
	packed, v, err := s.read(w.Body.Bytes(), "sp")
	if diff := cmp.Diff(Array{"http://sp.test:8090", "hällo", "", "192.0.2.1"}, v); diff != "" || err != nil || packed != "signed and sealed" {
		t.Errorf("%s answer, error %v:\n%s", packed, err, diff)
	}
	if event.Reason != ReasonOK || event.Fault != nil || !event.Verified || event.Method != echo ||
		event.Peer.Wwwroot.String() != "http://sp.test:8090" || event.Addr != netip.MustParseAddr("192.0.2.1") || event.Duration <= 0 {
		t.Errorf("event %+v", event)
	}
}

func TestSystemMethodsAnswerLikeAMoodle(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		call []byte
		want Value
	}{
		{s.call("system/listServices"), Array{
			Struct{{"name", "sso_idp"}, {"apiversion", "1"}, {"publish", "1"}, {"subscribe", "0"}},
			Struct{{"name", "sso_sp"}, {"apiversion", "1"}, {"publish", "0"}, {"subscribe", "1"}},
		}},
		{s.call("system/listMethods"), Array{echo, fail, once, refuse}},
		{s.call("system/listMethods", "sso_idp"), Array{echo, fail, once, refuse}},
		{s.call("system/listMethods", "sso_sp"), Array{}},
		{s.call("system/keyswap", "a", "b"), recordedKey(t, "idp").Certificate().PEM()},
	} {
		w, _ := s.post(c.call, home)
		_, v, err := s.read(w.Body.Bytes(), "sp")
		if diff := cmp.Diff(c.want, v); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	}
}

func TestARecordedKeyswapIsAnsweredAsRecorded(t *testing.T) {
	for _, name := range []string{"system-keyswap", "ok-plain-keyswap"} {
		s := newSite(t)
		w, event := s.post(readCapture(t, name+"/request.xml"), home)
		equalBytes(t, w.Body.Bytes(), readCapture(t, name+"/response.xml"))
		if event.Reason != ReasonOK || event.Peer != nil || event.Verified {
			t.Errorf("event %+v", event)
		}
	}
}

// The recorded error cases must end in the recorded fault, in the recorded
// envelope, except where the stock server has a known fault of its own.
func TestRecordedErrorsAreAnsweredAsRecorded(t *testing.T) {
	for name, better := range map[string]int{
		"err-plain-unsigned":         FaultPlaintext,
		"err-plain-listMethods":      FaultPlaintext,
		"err-signed-not-encrypted":   FaultPlaintext,
		"err-unsigned-but-encrypted": FaultNotSigned,
		"err-sealed-for-wrong-key":   FaultNotOpened,
		"err-wrong-signing-key":      FaultBadSignature,
		"err-bad-method-syntax":      FaultMethodName,
		"err-unknown-method":         FaultNoMethod,
		"err-not-permitted-method":   FaultNoMethod,
		"err-unknown-peer":           FaultUnknownPeer, // recorded as 0: a bug
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.Keys = keysOf(s.Keys()[0])
			s.Window = 24 * time.Hour
			recorded := readCapture(t, name+"/response.xml")
			w, _ := s.post(readCapture(t, name+"/request.xml"), home)
			_, _, err := s.read(w.Body.Bytes(), "sp")
			fault, ok := errors.AsType[*Fault](err)
			if !ok || fault.Code != better {
				t.Errorf("answer %v, want fault %d", err, better)
			}
			if got, want := layersOf(t, w.Body.Bytes()), layersOf(t, recorded); got != want {
				t.Errorf("packed as %s, recorded as %s", got, want)
			}
		})
	}
}

// layersOf returns the names of the envelopes around an answer to sp.
func layersOf(t *testing.T, doc []byte) string {
	t.Helper()
	layers := rootOf(doc)
	if sealed, err := ParseSealed(doc); err == nil {
		opened, err := sealed.Open(recordedKeys()...)
		if err != nil {
			t.Fatal(err)
		}
		layers += " " + rootOf(opened.Plaintext)
	}
	return layers
}

func TestHostileAndBrokenCallsGetTheRightFault(t *testing.T) {
	sp, sp2, idp, stranger := recordedKey(t, "sp"), recordedKey(t, "sp2"), recordedKey(t, "idp"), recordedKey(t, "stranger")
	spRoot, sp2Root := wwwroot(t, "http://sp.test:8090"), wwwroot(t, "http://sp2.test")
	call := EncodeCall(echo, "x")
	const both = "signed and sealed"
	sign := func(doc []byte, key *Key, from gateway.Wwwroot, at time.Time) []byte {
		signed, err := Sign(doc, key, from, at)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	for name, c := range map[string]struct {
		doc    func(s *site) []byte
		packed string
		code   int
		reason string
	}{
		"unknown peer": {func(s *site) []byte {
			return envelope(t, call, stranger, idp, wwwroot(t, "http://stranger.test"), s.now)
		}, "plain", FaultUnknownPeer, ReasonUnknownPeer},
		"a peer in another spelling": {func(s *site) []byte {
			return bytes.ReplaceAll(s.call(echo, "x"), []byte("http://sp.test"), []byte("HTTP://sp.test"))
		}, "plain", FaultUnknownPeer, ReasonUnknownPeer},
		"a peer without certificate": {func(s *site) []byte {
			return envelope(t, call, stranger, idp, wwwroot(t, "http://new.test"), s.now)
		}, "plain", FaultNoCertificate, ReasonNoCertificate},
		"a failing lookup": {func(s *site) []byte {
			return envelope(t, call, stranger, idp, wwwroot(t, "http://broken.test"), s.now)
		}, "plain", FaultOther, ReasonLookupFailed},
		"another site's key": {func(s *site) []byte {
			return envelope(t, call, sp, stranger, spRoot, s.now)
		}, "plain", FaultNotOpened, ReasonNotOpened},
		"good padding around garbage": {func(s *site) []byte {
			return handMade(t, idp, []byte("garbage that is no message"), make([]byte, 16))
		}, "plain", FaultNotOpened, ReasonNotOpened},
		"bad padding": {func(s *site) []byte {
			return sealedDocument("http://sp.test:8090", make([]byte, 300), append(make([]byte, 255), 7))
		}, "plain", FaultNotOpened, ReasonNotOpened},
		"plain call": {func(s *site) []byte { return call }, "plain", FaultPlaintext, ReasonNotSealed},
		"signed, not sealed": {func(s *site) []byte {
			return sign(call, sp, spRoot, s.now)
		}, "signed", FaultPlaintext, ReasonNotSealed},
		"signed by a stranger, not sealed": {func(s *site) []byte {
			return sign(call, stranger, wwwroot(t, "http://stranger.test"), s.now)
		}, "plain", FaultUnknownPeer, ReasonUnknownPeer},
		"sealed, not signed": {func(s *site) []byte { return seal(t, call, idp, spRoot) }, "sealed", FaultNotSigned, ReasonNotSigned},
		"sealed keyswap, not signed": {func(s *site) []byte {
			return seal(t, EncodeCall("system/keyswap", "a", "b"), idp, spRoot)
		}, "sealed", FaultNotSigned, ReasonNotSigned},
		"signed by another peer": {func(s *site) []byte {
			return envelope(t, call, sp2, idp, spRoot, s.now)
		}, both, FaultBadSignature, ReasonBadSignature},
		"signed by another peer in its own name": {func(s *site) []byte {
			return seal(t, sign(call, sp2, sp2Root, s.now), idp, spRoot)
		}, both, FaultBadSignature, ReasonWwwrootMismatch},
		"another peer inside, ours outside": {func(s *site) []byte {
			return seal(t, sign(call, sp, sp2Root, s.now), idp, spRoot)
		}, both, FaultBadSignature, ReasonWwwrootMismatch},
		"two wwwroots inside": {func(s *site) []byte {
			signed := sign(call, sp, spRoot, s.now)
			return seal(t, bytes.Replace(signed, []byte("<wwwroot>"), []byte("<wwwroot></wwwroot><wwwroot>"), 1), idp, spRoot)
		}, both, FaultBadSignature, ReasonMalformed},
		"changed after signing": {func(s *site) []byte {
			signed := sign(EncodeCall(echo, "x"), sp, spRoot, s.now)
			other := sign(EncodeCall(echo, "y"), stranger, spRoot, s.now)
			from, _ := ParseSigned(signed)
			to, _ := ParseSigned(other)
			return seal(t, bytes.Replace(signed, base64Of(from.Payload), base64Of(to.Payload), 1), idp, spRoot)
		}, both, FaultBadSignature, ReasonBadSignature},
		"5 minutes and a second old": {func(s *site) []byte {
			return envelope(t, call, sp, idp, spRoot, s.now.Add(-5*time.Minute-time.Second))
		}, both, FaultUnknown, ReasonTimestamp},
		"5 minutes and a second ahead": {func(s *site) []byte {
			return envelope(t, call, sp, idp, spRoot, s.now.Add(5*time.Minute+time.Second))
		}, both, FaultUnknown, ReasonTimestamp},
		"of the year 9999": {func(s *site) []byte {
			return envelope(t, call, sp, idp, spRoot, time.Unix(maxTimestamp, 0))
		}, both, FaultUnknown, ReasonTimestamp},
		"no XML-RPC inside": {func(s *site) []byte {
			return envelope(t, []byte("hello"), sp, idp, spRoot, s.now)
		}, both, FaultUnknown, ReasonMalformed},
		"an entity bomb inside": {func(s *site) []byte {
			return envelope(t, []byte(`<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><methodCall><methodName>&b;</methodName></methodCall>`), sp, idp, spRoot, s.now)
		}, both, FaultUnknown, ReasonMalformed},
		"deep nesting inside": {func(s *site) []byte {
			return envelope(t, EncodeCall(echo, nest(200)), sp, idp, spRoot, s.now)
		}, both, FaultUnknown, ReasonMalformed},
		"20,000 parameters inside": {func(s *site) []byte {
			return envelope(t, []byte("<methodCall><methodName>a/b</methodName><params>"+strings.Repeat("<param><value/></param>", 20_000)+
				"</params></methodCall>"), sp, idp, spRoot, s.now)
		}, both, FaultUnknown, ReasonMalformed},
		"a dotted method":                 {func(s *site) []byte { return s.call("system.listMethods") }, both, FaultMethodName, ReasonMethodName},
		"a path that climbs":              {func(s *site) []byte { return s.call("../../etc/passwd") }, both, FaultMethodName, ReasonMethodName},
		"an unknown method":               {func(s *site) []byte { return s.call("auth/mnet/auth.php/nosuchthing") }, both, FaultNoMethod, ReasonUnknownMethod},
		"an unknown system method":        {func(s *site) []byte { return s.call("system/selfDestruct") }, both, FaultNoSystemMethod, ReasonUnknownMethod},
		"an idle system method":           {func(s *site) []byte { return s.call("system/listFiles") }, both, FaultNotImplemented, ReasonUnknownMethod},
		"a method without its parameters": {func(s *site) []byte { return s.call(echo) }, both, FaultParameters, ReasonParameters},
		"a method that refuses":           {func(s *site) []byte { return s.call(refuse) }, both, FaultNoSession, ReasonFault},
		"a method that fails":             {func(s *site) []byte { return s.call(fail) }, both, FaultOther, ReasonFailed},
		"a replay store that fails": {func(s *site) []byte {
			s.replays.err = errors.New("secret detail")
			return s.call(echo, "x")
		}, both, FaultOther, ReasonReplaysFailed},
		"plain keyswap without parameters": {func(s *site) []byte { return EncodeCall("system/keyswap") }, "plain", FaultParameters, ReasonParameters},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			w, event := s.post(c.doc(s), home)
			if w.Code != http.StatusOK {
				t.Fatalf("status %d: %+v", w.Code, event)
			}
			packed, v, err := s.read(w.Body.Bytes(), "sp")
			fault, ok := errors.AsType[*Fault](err)
			if !ok || fault.Code != c.code || packed != c.packed || event.Reason != c.reason {
				t.Errorf("%s answer %v, %v for reason %s; want %s fault %d for %s", packed, v, err, event.Reason, c.packed, c.code, c.reason)
			}
			if event.Fault == nil || event.Fault.Code != c.code {
				t.Errorf("event tells of %v", event.Fault)
			}
			if strings.Contains(w.Body.String()+fmt.Sprint(err), "secret detail") {
				t.Error("the peer is told details")
			}
		})
	}
}

func nest(depth int) Value {
	v := Value("x")
	for range depth {
		v = Array{v}
	}
	return v
}

func base64Of(b []byte) []byte {
	doc := sealedDocument("", b, nil)
	_, after, _ := bytes.Cut(doc, []byte("<CipherValue>"))
	encoded, _, _ := bytes.Cut(after, []byte("<"))
	return encoded
}

func TestAMethodMustBePublishedToTheCaller(t *testing.T) {
	s := newSite(t)
	w, event := s.post(envelope(t, EncodeCall(echo, "x"), recordedKey(t, "sp2"), recordedKey(t, "idp"), wwwroot(t, "http://sp2.test"), s.now), home)
	_, _, err := s.read(w.Body.Bytes(), "sp2")
	if fault, ok := errors.AsType[*Fault](err); !ok || fault.Code != FaultNoMethod || event.Reason != ReasonNotPublished {
		t.Errorf("%v for reason %s", err, event.Reason)
	}
}

func TestTheWindowIncludesItsEdges(t *testing.T) {
	s := newSite(t)
	for _, off := range []time.Duration{-5 * time.Minute, 0, 5 * time.Minute} {
		doc := envelope(t, EncodeCall(echo, "x"), recordedKey(t, "sp"), recordedKey(t, "idp"), wwwroot(t, "http://sp.test:8090"), s.now.Add(off))
		if _, event := s.post(doc, home); event.Reason != ReasonOK {
			t.Errorf("%s off: %s", off, event.Reason)
		}
	}
}

func TestAMessageIsAcceptedOnce(t *testing.T) {
	for _, method := range []string{echo, once} {
		s := newSite(t)
		doc := s.call(method, "x")
		if _, event := s.post(doc, home); event.Reason != ReasonOK {
			t.Fatalf("%s: first time %s", method, event.Reason)
		}
		w, event := s.post(doc, home)
		packed, _, err := s.read(w.Body.Bytes(), "sp")
		if fault, ok := errors.AsType[*Fault](err); !ok || fault.Code != FaultUnknown || event.Reason != ReasonReplay || packed != "signed and sealed" {
			t.Errorf("%s: second time %s %v for reason %s", method, packed, err, event.Reason)
		}
		// The same RC4 key around a changed outer layer is the same message.
		again := bytes.Replace(doc, []byte("<CarriedKeyName>XMLENC</CarriedKeyName>"), nil, 1)
		if _, event := s.post(again, home); event.Reason != ReasonReplay {
			t.Errorf("%s: in another wrapping %s", method, event.Reason)
		}
		if _, event := s.post(s.call(method, "x"), home); event.Reason != ReasonOK {
			t.Errorf("%s: the same payload in a new message: %s", method, event.Reason)
		}
	}
}

func TestACallForAnArchivedKeyGetsTheNewOne(t *testing.T) {
	s := newSite(t)
	doc := envelope(t, EncodeCall(echo, "x"), recordedKey(t, "sp"), recordedKey(t, "sp2-old"), wwwroot(t, "http://sp.test:8090"), s.now)
	w, event := s.post(doc, home)
	packed, _, err := s.read(w.Body.Bytes(), "sp")
	fault, ok := errors.AsType[*Fault](err)
	if !ok || fault.Code != FaultNewKey || fault.String != s.Keys()[0].Certificate().PEM() || event.Reason != ReasonOldKey {
		t.Errorf("%v for reason %s", err, event.Reason)
	}
	if packed != "signed with the old key and sealed" {
		t.Errorf("packed as %s: the caller can only verify the old key", packed)
	}

	// Before its own signature is judged, since that key may be new as well.
	doc = envelope(t, EncodeCall(echo, "x"), recordedKey(t, "stranger"), recordedKey(t, "sp2-old"), wwwroot(t, "http://sp.test:8090"), s.now)
	if _, event := s.post(doc, home); event.Reason != ReasonOldKey || event.Verified {
		t.Errorf("signed by a key that is not known: reason %s, verified %t", event.Reason, event.Verified)
	}
}

// What an attacker gets to see must not depend on whether a padding was good.
func TestThereIsNoPaddingOracle(t *testing.T) {
	s := newSite(t)
	good := handMade(t, recordedKey(t, "idp"), bytes.Repeat([]byte{'x'}, 400), make([]byte, 16))
	bad := sealedDocument("http://sp.test:8090", make([]byte, 400), append(make([]byte, 255), 7))
	var answers []string
	for _, doc := range [][]byte{good, bad} {
		w, _ := s.post(doc, home)
		answers = append(answers, fmt.Sprint(w.Code, w.Header(), w.Body))
	}
	if answers[0] != answers[1] {
		t.Errorf("good padding:\n%s\nbad padding:\n%s", answers[0], answers[1])
	}
}

func TestWhatNoPeerSendsGetsAPlainHTTPError(t *testing.T) {
	for name, c := range map[string]struct {
		request func() *http.Request
		status  int
		reason  string
	}{
		"GET":           {func() *http.Request { return httptest.NewRequest("GET", "/", nil) }, 405, ReasonNotPost},
		"an empty body": {func() *http.Request { return httptest.NewRequest("POST", "/", nil) }, 400, ReasonMalformed},
		"garbage": {func() *http.Request {
			return httptest.NewRequest("POST", "/", strings.NewReader("garbage"))
		}, 400, ReasonMalformed},
		"a broken envelope": {func() *http.Request {
			return httptest.NewRequest("POST", "/", strings.NewReader("<encryptedMessage></encryptedMessage>"))
		}, 400, ReasonMalformed},
		"a broken signed message": {func() *http.Request {
			return httptest.NewRequest("POST", "/", strings.NewReader("<signedMessage></signedMessage>"))
		}, 400, ReasonMalformed},
		"an entity bomb": {func() *http.Request {
			return httptest.NewRequest("POST", "/", strings.NewReader(`<!DOCTYPE a [<!ENTITY a "aaaa">]><methodCall><methodName>&a;</methodName></methodCall>`))
		}, 400, ReasonMalformed},
		"a body that says it is too large": {func() *http.Request {
			return httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat(" ", MaxBody+1)))
		}, 413, ReasonTooLarge},
		"a body that turns out too large": {func() *http.Request {
			return httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader(strings.Repeat(" ", MaxBody+1))))
		}, 413, ReasonTooLarge},
		"a body that breaks off": {func() *http.Request {
			return httptest.NewRequest("POST", "/", iotest.ErrReader(io.ErrUnexpectedEOF))
		}, 400, ReasonUnreadable},
	} {
		s := newSite(t)
		w, event := s.send(c.request())
		if w.Code != c.status || event.Status != c.status || event.Reason != c.reason || w.Body.Len() > 100 || w.Body.Len() == 0 {
			t.Errorf("%s: status %d for reason %s, %d bytes; want %d for %s", name, w.Code, event.Reason, w.Body.Len(), c.status, c.reason)
		}
		if c.status == 405 && w.Header().Get("Allow") != "POST" {
			t.Errorf("%s: Allow is %q", name, w.Header().Get("Allow"))
		}
	}
}

func TestAFloodIsStoppedBeforeItCostsWork(t *testing.T) {
	s := newSite(t)
	claim := func(from string) []byte { // costs an RSA operation and no more
		return sealedDocument(from, make([]byte, 64), append(make([]byte, 255), 7))
	}
	flood := func(from, addr string, n int) (served int) {
		t.Helper()
		for range n {
			w, event := s.post(claim(from), addr)
			switch {
			case w.Code == http.StatusOK:
				served++
			case w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || event.Reason != ReasonBudget:
				t.Fatalf("status %d, %v, reason %s", w.Code, w.Header(), event.Reason)
			}
		}
		return served
	}
	works := func(when string, peer, key, addr string) {
		t.Helper()
		doc := envelope(t, EncodeCall("system/listServices"), recordedKey(t, key), recordedKey(t, "idp"), wwwroot(t, peer), s.now)
		if w, event := s.post(doc, addr); w.Code != 200 || event.Reason != ReasonOK {
			t.Errorf("%s %s is refused from %s: %s", when, peer, addr, event.Reason)
		}
	}
	works("before the flood", "http://sp.test:8090", "sp", home)

	const attacker = "203.0.113.9:1"
	if served, want := flood("http://sp.test:8090", attacker, 200), pairAllowance.burst; served != want {
		t.Errorf("one address got %d of 200 calls through, want %d", served, want)
	}
	works("in a flood from one address,", "http://sp.test:8090", "sp", home)
	works("in a flood that claims another peer, from the same address,", "http://sp2.test", "sp2", attacker)

	total := 0
	for i := range 30 {
		total += flood("http://sp.test:8090", fmt.Sprintf("198.51.100.%d:1", i), 20)
	}
	if total > peerAllowance.burst {
		t.Errorf("many addresses got %d calls through for one peer, want at most %d", total, peerAllowance.burst)
	}
	works("in a flood from many addresses,", "http://sp.test:8090", "sp", home)
	works("in a flood from many addresses,", "http://sp2.test", "sp2", "198.51.100.77:1")

	// Unknown peers cost nothing and are told so.
	if w, event := s.post(claim("http://nobody.test"), attacker); w.Code != 200 || event.Reason != ReasonUnknownPeer {
		t.Errorf("unknown peer: %d, %s", w.Code, event.Reason)
	}
	s.now = s.now.Add(time.Minute)
	if served := flood("http://sp.test:8090", attacker, 1); served != 1 {
		t.Error("the budget does not recover")
	}
}

func TestAReplayedRecordingProvesNoAddress(t *testing.T) {
	s := newSite(t)
	doc := s.call(echo, "x")
	s.post(doc, home)
	s.post(doc, "203.0.113.9:1")
	if _, ok := s.budget.proven.entries[caller{netip.MustParseAddr("203.0.113.9"), "http://sp.test:8090"}]; ok {
		t.Error("the address of a replay counts as the peer's")
	}
	if _, ok := s.budget.proven.entries[caller{netip.MustParseAddr("192.0.2.1"), "http://sp.test:8090"}]; !ok {
		t.Error("the peer's own address does not")
	}
}

func TestTablesOfTheBudgetAreBounded(t *testing.T) {
	now := time.Unix(1795336536, 0)
	b := NewBudget()
	for i := range 2 * budgetEntries {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		b.allow(caller{addr, fmt.Sprint(i)}, now)
		b.prove(caller{addr, fmt.Sprint(i)}, now)
	}
	for name, n := range map[string]int{
		"proven": len(b.proven.entries), "pairs": len(b.pairs.entries), "addresses": len(b.addrs.entries), "peers": len(b.peers.entries),
	} {
		if n > budgetEntries {
			t.Errorf("%d %s", n, name)
		}
	}
	b.allow(caller{netip.MustParseAddr("192.0.2.1"), "x"}, now.Add(25*time.Hour))
	if n := len(b.proven.entries) + len(b.pairs.entries) + len(b.addrs.entries) + len(b.peers.entries); n != 3 {
		t.Errorf("%d entries are left a day later", n)
	}
}

func TestAnIPv6NetworkIsOneCaller(t *testing.T) {
	for addr, want := range map[string]string{
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
		"fe80::1%eth0":         "fe80::",
		"::ffff:192.0.2.1":     "192.0.2.1",
		"192.0.2.1":            "192.0.2.1",
	} {
		if got := network(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s is %s, want %s", addr, got, want)
		}
	}
	network(netip.Addr{})
}

func TestPublicKeyServesTheCertificate(t *testing.T) {
	key := recordedKey(t, "idp")
	for _, method := range []string{"GET", "HEAD", "POST"} {
		w := httptest.NewRecorder()
		PublicKey(func() *Key { return key }).ServeHTTP(w, httptest.NewRequest(method, "/mnet/publickey.php", nil))
		want := map[string]string{"GET": key.Certificate().PEM()}[method]
		if method == "POST" {
			if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("POST: %d, %v", w.Code, w.Header())
			}
			continue
		}
		if w.Code != 200 || w.Body.String() != want || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") ||
			w.Header().Get("Content-Length") != fmt.Sprint(len(key.Certificate().PEM())) {
			t.Errorf("%s: %d, %v, %q", method, w.Code, w.Header(), w.Body)
		}
	}
}

func TestAReloadDoesNotHelpAFlood(t *testing.T) {
	keys := []*Key{recordedKey(t, "idp")}
	for range MaxArchived {
		key, err := NewKey(keyringSite(t), time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	budget := NewBudget()
	fresh := func() *site { // as after each change of the configuration
		s := newSite(t)
		s.Server.Keys, s.Budget = keysOf(keys...), budget
		return s
	}
	s := fresh()
	if _, event := s.post(s.call("system/listServices"), home); event.Reason != ReasonOK {
		t.Fatal(event.Reason)
	}
	s = fresh()
	garbage := sealedDocument("http://sp.test:8090", make([]byte, 64), append(make([]byte, 255), 7))
	for i := range 300 {
		s.post(garbage, fmt.Sprintf("198.51.100.%d:1", i%60))
	}
	if w, event := s.post(s.call("system/listServices"), home); event.Reason != ReasonOK {
		t.Errorf("a peer that was there before the flood gets %d for %s", w.Code, event.Reason)
	}
}
