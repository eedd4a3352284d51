package mnet

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"

	"github.com/google/go-cmp/cmp"
)

// relay is a Relay under test, of the recorded idp whose only peer is sp.
type relay struct {
	*Relay
	t      testing.TB
	seen   []*http.Request // what reached Moodle, and its bodies
	bodies []string
	answer *http.Response // nil: none comes
	events []Event
}

func newRelay(t testing.TB) *relay {
	l := &relay{t: t, answer: &http.Response{Header: http.Header{"Set-Cookie": {"a=b"}}, Body: io.NopCloser(strings.NewReader("answer"))}}
	peers, err := gateway.NewAllowlist(&gateway.Peer{Wwwroot: wwwroot(t, "http://sp.test:8090")}, &gateway.Peer{Wwwroot: wwwroot(t, "http://off.test"), Off: true})
	if err != nil {
		t.Fatal(err)
	}
	l.Relay = &Relay{
		Peers: peers,
		Forward: func(w http.ResponseWriter, r *http.Request, look func(*http.Response)) {
			body, err := io.ReadAll(r.Body)
			if err != nil || r.ContentLength != int64(len(body)) {
				t.Errorf("the body has %d bytes, not %d: %v", len(body), r.ContentLength, err)
			}
			l.seen, l.bodies = append(l.seen, r), append(l.bodies, string(body))
			if l.answer == nil {
				http.Error(w, "bad gateway", http.StatusBadGateway)
				return
			}
			look(l.answer)
			io.Copy(w, l.answer.Body)
		},
		Observe: func(_ context.Context, e Event) { l.events = append(l.events, e) },
	}
	return l
}

func (l *relay) send(r *http.Request) (*httptest.ResponseRecorder, Event) {
	l.t.Helper()
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r)
	if len(l.events) == 0 {
		l.t.Fatal("no event")
	}
	return w, l.events[len(l.events)-1]
}

func post(doc string) *http.Request {
	return httptest.NewRequest(http.MethodPost, "/moodle/mnet/xmlrpc/server.php", strings.NewReader(doc))
}

func TestARelayPassesOnWhatAPeerMaySend(t *testing.T) {
	sp, stranger, at := wwwroot(t, "http://sp.test:8090"), wwwroot(t, "http://sp2.test"), time.Unix(1795336536, 0)
	signed := func(from gateway.Wwwroot) string {
		doc, err := Sign(EncodeCall("a/b"), recordedKey(t, "sp"), from, at)
		if err != nil {
			t.Fatal(err)
		}
		return string(doc)
	}
	sealed := func(from gateway.Wwwroot) string {
		return string(seal(t, []byte(signed(from)), recordedKey(t, "idp"), from))
	}
	tests := []struct {
		name, doc string
		passes    bool
		reason    string
		answer    string // part of ours
	}{
		{"a sealed call of a peer", sealed(sp), true, ReasonRelayed, ""},
		{"a recorded call of a peer", string(readCapture(t, "user_authorise/request.xml")), true, ReasonRelayed, ""},
		{"a signed call of a peer", signed(sp), true, ReasonRelayed, ""},
		{"a keyswap of a peer", string(EncodeCall(keyswap, sp.String(), "PEM", "moodle")), true, ReasonRelayed, ""},
		{"a sealed call of a stranger", sealed(stranger), false, ReasonUnknownPeer, "<int>7020</int>"},
		{"a signed call of a stranger", signed(stranger), false, ReasonUnknownPeer, "<int>7020</int>"},
		{"a keyswap of a stranger", string(EncodeCall(keyswap, stranger.String(), "PEM", "moodle")), false, ReasonUnknownPeer, "<int>7020</int>"},
		{"a sealed call of a peer that is switched off", sealed(wwwroot(t, "http://off.test")), false, ReasonUnknownPeer, "<int>7020</int>"},
		{"a keyswap of nobody", string(EncodeCall(keyswap)), false, ReasonUnknownPeer, "<int>7020</int>"},
		{"a keyswap of somebody with a long name", string(EncodeCall(keyswap, strings.Repeat("x", 9999))), false, ReasonUnknownPeer, strings.Repeat("x", 255) + "."},
		{"a peer in another spelling", strings.Replace(sealed(sp), "http://sp.test", "http://SP.test", 1), false, ReasonUnknownPeer, "<int>7020</int>"},
		{"two senders", strings.Replace(sealed(sp), "<wwwroot>", "<wwwroot>http://evil.test</wwwroot><wwwroot>", 1), false, ReasonMalformed, "Bad Request"},
		{"another plain call", string(EncodeCall("system/listMethods", sp.String())), false, ReasonNotSealed, "<int>7021</int>"},
		{"an answer", string(EncodeResponse("x")), false, ReasonMalformed, "Bad Request"},
		{"a document type", "<!DOCTYPE x>" + sealed(sp), false, ReasonMalformed, "Bad Request"},
		{"garbage", "\x00\xff", false, ReasonMalformed, "Bad Request"},
		{"nothing", "", false, ReasonMalformed, "Bad Request"},
		{"too much", strings.Repeat(" ", MaxBody) + sealed(sp), false, ReasonTooLarge, "Entity Too Large"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newRelay(t)
			w, e := l.send(post(test.doc))
			if e.Reason != test.reason || (e.Peer != nil) != test.passes || e.Verified || len(e.Claimed) > 255 {
				t.Errorf("%+v", e)
			}
			if !test.passes {
				if len(l.seen) > 0 || !strings.Contains(w.Body.String(), test.answer) {
					t.Errorf("%d requests reached Moodle; the answer is %s", len(l.seen), w.Body)
				}
				return
			}
			if w.Body.String() != "answer" || len(l.bodies) != 1 || l.bodies[0] != test.doc {
				t.Errorf("Moodle got %q; the answer is %s", l.bodies, w.Body)
			}
		})
	}
}

func TestARelayPassesOnNothingElseOfARequest(t *testing.T) {
	l := newRelay(t)
	r := httptest.NewRequest(http.MethodPost, "/moodle/mnet/xmlrpc/%73erver.php?x=1", bytes.NewReader(EncodeCall(keyswap, "http://sp.test:8090")))
	r.Header = http.Header{
		"Content-Type": {"multipart/form-data; boundary=x"}, "Cookie": {"MoodleSession=x"}, "Authorization": {"Basic x"},
		"Content-Encoding": {"gzip"}, "Expect": {"100-continue"}, "User-Agent": {"Moodle"}, "X-Forwarded-For": {"192.0.2.1"}, "X-Request-Id": {"id"},
	}
	r.Host = "home.test"
	l.send(r)
	want := http.Header{"Content-Type": {"text/xml"}, "User-Agent": {"Moodle"}, "X-Forwarded-For": {"192.0.2.1"}, "X-Request-Id": {"id"}}
	if got := l.seen[0]; got.RequestURI != "/moodle/mnet/xmlrpc/server.php" || got.Host != "home.test" || got.Method != "POST" {
		t.Errorf("%s %s for %s", got.Method, got.RequestURI, got.Host)
	}
	if diff := cmp.Diff(want, l.seen[0].Header); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c := l.answer.Header["Set-Cookie"]; c != nil {
		t.Errorf("the answer sets %q", c)
	}
}

func TestARelayTakesNothingButPosts(t *testing.T) {
	l := newRelay(t)
	w, e := l.send(httptest.NewRequest(http.MethodGet, "/mnet/xmlrpc/server.php", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST" || e.Reason != ReasonNotPost || len(l.seen) > 0 {
		t.Errorf("%d %+v", w.Code, e)
	}
}

// endless never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestARelayedAnswerIsBounded(t *testing.T) {
	l := newRelay(t)
	l.answer.Body = io.NopCloser(endless{})
	if w, _ := l.send(post(string(EncodeCall(keyswap, "http://sp.test:8090")))); w.Body.Len() != MaxPassed {
		t.Errorf("%d bytes", w.Body.Len())
	}
}

func TestARelayTellsWhenMoodleDoesNotAnswer(t *testing.T) {
	l := newRelay(t)
	l.answer = nil
	if w, e := l.send(post(string(EncodeCall(keyswap, "http://sp.test:8090")))); w.Code != http.StatusBadGateway || e.Reason != ReasonNoAnswer {
		t.Errorf("%d %+v", w.Code, e)
	}
}

func TestARelayBoundsWhatAnAddressMaySend(t *testing.T) {
	l := newRelay(t)
	addr := netip.MustParseAddr("192.0.2.1")
	l.Addr = func(*http.Request) netip.Addr { return addr }
	doc := string(EncodeCall(keyswap, "http://sp.test:8090"))
	for i := range 10 * relayAllowance.burst {
		w, e := l.send(post(doc))
		if e.Reason == ReasonRelayed {
			continue
		}
		if i < relayAllowance.burst || e.Reason != ReasonBudget || w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Fatalf("call %d: %d %+v", i, w.Code, e)
		}
		addr = netip.MustParseAddr("192.0.2.2")
		if _, e := l.send(post(doc)); e.Reason != ReasonRelayed {
			t.Errorf("another address: %+v", e)
		}
		return
	}
	t.Error("a flood passes")
}
