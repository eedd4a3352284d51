package mnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"

	"github.com/google/go-cmp/cmp"
)

// recordedCall is one recorded exchange, taken apart. The caller and the
// callee are known by their keys.
type recordedCall struct {
	dir      string
	request  []byte // as it was on the wire
	response []byte
	method   string
	params   []Value
	claimed  string // the wwwroot inside
	at       time.Time
	from, to string // names of the keys: who signed, for whom it was sealed
}

// recordedCalls returns the exchanges whose request was sealed and signed, and
// of which that is known in full.
func recordedCalls(t testing.TB) []recordedCall {
	t.Helper()
	names := []string{"idp", "sp", "sp2", "sp2-old", "stranger"}
	var calls []recordedCall
	for _, name := range recordedMessages(t) {
		dir, which := path.Split(name)
		if which != "request" {
			continue
		}
		c := recordedCall{dir: strings.TrimSuffix(dir, "/"), request: readCapture(t, name+".xml")}
		sealed, err := ParseSealed(c.request)
		if err != nil {
			continue
		}
		c.response = readCapture(t, dir+"response.xml")
		opened, err := sealed.Open(recordedKeys()...)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := ParseSigned(opened.Plaintext)
		if err != nil {
			continue
		}
		c.to, c.claimed, c.at = names[opened.Key], signed.Wwwroot, signed.Timestamp
		c.from = names[slices.IndexFunc(recordedKeys(), func(k *Key) bool { return signed.Verify(k.Certificate()) == nil })]
		if c.method, c.params, err = DecodeCall(signed.Payload); err != nil {
			t.Fatal(err)
		}
		calls = append(calls, c)
	}
	if len(calls) < 25 {
		t.Fatalf("%d recorded calls", len(calls))
	}
	return calls
}

// callee returns the site that a key belongs to.
func callee(t testing.TB, key string) gateway.Wwwroot {
	t.Helper()
	switch key {
	case "sp":
		return wwwroot(t, "http://sp.test:8090")
	case "sp2", "sp2-old":
		return wwwroot(t, "http://sp2.test")
	}
	return wwwroot(t, "http://idp.test:8080")
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

var (
	declaration = regexp.MustCompile(`^<\?xml[^>]*\?>\s*`)
	betweenTags = regexp.MustCompile(`>\s+<`)
	untyped     = regexp.MustCompile(`<value></value>`)
)

// layoutless returns a document without what may differ between two writers of
// the same message: ciphertexts, the XML declaration, white space between tags,
// and the untyped value that PHP writes for null.
func layoutless(doc []byte) string {
	doc = cipherValues.ReplaceAll(declaration.ReplaceAll(bytes.TrimSpace(doc), nil), nil)
	doc = betweenTags.ReplaceAll(doc, []byte("><"))
	return string(untyped.ReplaceAll(doc, []byte("<value><string></string></value>")))
}

// open takes the envelopes off a message for the holder of a recorded key.
func openFor(t testing.TB, doc []byte, key string) []byte {
	t.Helper()
	sealed, err := ParseSealed(doc)
	if err != nil {
		return doc // plain
	}
	opened, err := sealed.Open(recordedKey(t, key))
	if err != nil {
		t.Fatal(err)
	}
	return opened.Plaintext
}

func payloadOf(t testing.TB, doc []byte) []byte {
	t.Helper()
	signed, err := ParseSigned(doc)
	if err != nil {
		return doc // not signed
	}
	return signed.Payload
}

func TestOurClientCallsAsTheRecordedOnesAndReadsTheirAnswers(t *testing.T) {
	otherTime := map[string]string{ // calls that were answered in their future or past
		"ok-replayed-envelope":    "ahead of ours",
		"ok-timestamp-minus-1day": "ahead of ours",
		"ok-timestamp-plus-1day":  "old",
	}
	for _, c := range recordedCalls(t) {
		t.Run(c.dir, func(t *testing.T) {
			client := &Client{
				Keys: keysOf(recordedKey(t, c.from)), Site: wwwroot(t, c.claimed), Now: func() time.Time { return c.at },
				HTTP: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
					sent, err := io.ReadAll(r.Body)
					if err != nil {
						return nil, err
					}
					if diff := cmp.Diff(layoutless(c.request), layoutless(sent)); diff != "" {
						t.Errorf("sealed message (-recorded +ours)\n%s", diff)
					}
					recorded, ours := openFor(t, c.request, c.to), openFor(t, sent, c.to)
					if want, got := payloadOf(t, recorded), payloadOf(t, ours); !bytes.Equal(want, got) {
						if diff := cmp.Diff(layoutless(want), layoutless(got)); diff != "" {
							t.Errorf("call (-recorded +ours)\n%s", diff)
						}
					} else if diff := cmp.Diff(layoutless(recorded), layoutless(ours)); diff != "" {
						// One call, one signature, down to the last byte.
						t.Errorf("signed message (-recorded +ours)\n%s", diff)
					}
					return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(c.response))}, nil
				})},
			}
			peer := &gateway.Peer{Wwwroot: callee(t, c.to), Application: gateway.Moodle}
			got, err := client.Call(t.Context(), peer, recordedKey(t, c.to).Certificate(), c.method, c.params...)
			if c.dir == "err-wrong-signing-key" { // the answer is for the one it said it was
				if err == nil {
					t.Error("an answer for somebody else is read")
				}
				return
			}
			want, refused := DecodeResponse(recordedPayload(t, c.dir))
			fault, ok := errors.AsType[*Fault](err)
			switch {
			case otherTime[c.dir] != "":
				if err == nil || !strings.Contains(err.Error(), otherTime[c.dir]) {
					t.Error(err)
				}
			case refused != nil:
				if want := refused.(*Fault); !ok || fault.Code != want.Code || fault.String != want.String {
					t.Errorf("%v, want %v", err, refused)
				}
			case err != nil:
				t.Error(err)
			default:
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("value (-recorded +read)\n%s", diff)
				}
			}
		})
	}
}

// recordedPayload returns the innermost layer of a recorded answer.
func recordedPayload(t testing.TB, dir string) []byte {
	t.Helper()
	doc := readCapture(t, dir+"/response.xml")
	if sealed, err := ParseSealed(doc); err == nil {
		opened, err := sealed.Open(recordedKeys()...)
		if err != nil {
			t.Fatal(err)
		}
		doc = opened.Plaintext
	}
	return payloadOf(t, doc)
}

func TestOurServerAnswersTheRecordedCallsWithTheRecordedBytes(t *testing.T) {
	// What we answer with a fault where Moodle answers something else, or with
	// a value in words of our own.
	const ownWords = -1
	otherwise := map[string]int{
		"system-methodHelp":        ownWords,
		"system-methodSignature":   ownWords,
		"err-unknown-peer":         FaultUnknownPeer, // Moodle trips over its own text
		"err-missing-params":       FaultParameters,  // in another layout
		"ok-timestamp-plus-1day":   FaultUnknown,
		"ok-timestamp-minus-1day":  FaultUnknown,
		"err-sealed-for-wrong-key": FaultNotOpened, // in other words
		"err-server-without-rc4":   FaultNotOpened,
	}
	for _, c := range recordedCalls(t) {
		t.Run(c.dir, func(t *testing.T) {
			// Whose key was on file for the caller, the answer says.
			known := c.from
			answer, at := c.response, c.at
			for _, name := range []string{"idp", "sp", "sp2", "sp2-old"} {
				if sealed, err := ParseSealed(c.response); err == nil {
					if opened, err := sealed.Open(recordedKey(t, name)); err == nil {
						known, answer = name, opened.Plaintext
					}
				}
			}
			if signed, err := ParseSigned(answer); err == nil && otherwise[c.dir] == 0 {
				at = signed.Timestamp
			}
			keys := []*Key{recordedKey(t, c.to)}
			switch c.dir {
			case "fault-7025-old-key":
				keys = []*Key{recordedKey(t, "sp2"), recordedKey(t, "sp2-old")}
			case "err-sealed-for-wrong-key", "err-server-without-rc4":
				keys = []*Key{recordedKey(t, "sp2")}
			case "ok-timestamp-plus-1day":
				at = at.Add(-24 * time.Hour)
			case "ok-timestamp-minus-1day":
				at = at.Add(24 * time.Hour)
			}
			s := recordedServer(t, c, keys, recordedKey(t, known).Certificate(), at)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/mnet/xmlrpc/server.php", bytes.NewReader(c.request)))
			if diff := cmp.Diff(layoutless(c.response), layoutless(w.Body.Bytes())); diff != "" && otherwise[c.dir] == 0 {
				t.Errorf("sealed message (-recorded +ours)\n%s", diff)
			}
			ours := openFor(t, w.Body.Bytes(), known)
			if want := otherwise[c.dir]; want != 0 {
				_, err := DecodeResponse(payloadOf(t, ours))
				if fault, ok := errors.AsType[*Fault](err); ok != (want != ownWords) || ok && fault.Code != want {
					t.Errorf("%v, want fault %d", err, want)
				}
				return
			}
			equalBytes(t, ours, answer)
		})
	}
}

// recordedServer returns a Server that plays the callee of a recorded call: its
// methods have the recorded results.
func recordedServer(t testing.TB, c recordedCall, keys []*Key, known *gateway.Certificate, at time.Time) *Server {
	t.Helper()
	services := []string{"mnet_enrol", gateway.ServiceSSOIDP, gateway.ServiceSSOSP}
	peer := &gateway.Peer{Publish: services, Subscribe: services}
	peer.Wwwroot, _ = gateway.ParseWwwroot(c.claimed)
	var methods []Method
	if listed, err := DecodeResponse(recordedPayload(t, "system-listMethods")); err == nil {
		for _, name := range listed.(Array) {
			methods = append(methods, Method{Name: Text(name), Service: gateway.ServiceSSOIDP, MinParams: minParams(Text(name)),
				Call: func(context.Context, *Call) (Value, error) { return DecodeResponse(recordedPayload(t, c.dir)) }})
		}
	}
	return &Server{
		Site: callee(t, c.to), Keys: keysOf(keys...), Methods: methods, Now: func() time.Time { return at },
		Peer: func(_ context.Context, name string) (*gateway.Peer, *gateway.Certificate, error) {
			if c.dir == "err-unknown-peer" {
				return nil, nil, nil
			}
			return peer, known, nil
		},
	}
}

func minParams(method string) int {
	if strings.HasSuffix(method, "/user_authorise") {
		return 2
	}
	return 0
}

func TestWhatWeWriteIsReadAsWhatWasRecorded(t *testing.T) {
	for _, name := range recordedMessages(t) {
		doc := readCapture(t, name+".xml")
		if sealed, err := ParseSealed(doc); err == nil {
			opened, err := sealed.Open(recordedKeys()...)
			if err != nil {
				t.Fatal(err)
			}
			doc = opened.Plaintext
		}
		doc = payloadOf(t, doc)
		if rootOf(doc) == "methodcall" {
			method, params, err := DecodeCall(doc)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			again, paramsAgain, err := DecodeCall(EncodeCall(method, params...))
			if diff := cmp.Diff(params, paramsAgain); diff != "" || err != nil || again != method {
				t.Errorf("%s: %s and %s, %v\n%s", name, method, again, err, diff)
			}
			continue
		}
		v, err := DecodeResponse(doc)
		if fault, ok := errors.AsType[*Fault](err); ok {
			_, err := DecodeResponse(EncodeFault(fault))
			if again, ok := errors.AsType[*Fault](err); !ok || again.Code != fault.Code || again.String != fault.String {
				t.Errorf("%s: %v and %v", name, fault, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := DecodeResponse(EncodeResponse(v))
		if diff := cmp.Diff(v, again); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}
