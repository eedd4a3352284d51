package moodletest

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// captures are those of package mnet, which owns the wire.
const captures = "../mnet/testdata/captures"

func captured(t *testing.T, parts ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{captures}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func capturedKey(t *testing.T, name string) *mnet.Key {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(string(captured(t, "keys", name+".key.b64")))
	if err != nil {
		t.Fatal(err)
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der})
	key, err := mnet.ParseKey(append(captured(t, "keys", name+".cert.pem"), private...))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func capturedPeer(t *testing.T, wwwroot, name string) *gateway.Peer {
	all := []string{"mnet_enrol", gateway.ServiceSSOIDP, gateway.ServiceSSOSP}
	return &gateway.Peer{Wwwroot: mustWwwroot(t, wwwroot), Certificate: capturedKey(t, name).Certificate(), Publish: all, Subscribe: all}
}

// layers are what an answer is made of, from the outside in.
type layers struct {
	Status int
	Sealed bool
	Signed bool
	Doc    string
}

// open takes an answer apart with the caller's key and checks the signature.
func open(t *testing.T, status int, body []byte, caller *mnet.Key, signer *gateway.Certificate) layers {
	t.Helper()
	l := layers{Status: status}
	if sealed, err := mnet.ParseSealed(body); err == nil {
		opened, err := sealed.Open(caller)
		if err != nil {
			t.Fatal(err)
		}
		l.Sealed, body = true, opened.Plaintext
	}
	if signed, err := mnet.ParseSigned(body); err == nil {
		if err := signed.Verify(signer); err != nil {
			t.Error(err)
		}
		l.Signed, body = true, signed.Payload
	}
	l.Doc = string(body)
	return l
}

// A stand-in has no pictures and knows of no remote courses: what the recorded
// site says about them is left out of the comparison.
var (
	aboutPictures = regexp.MustCompile(`<member><name>_mnet_userpicture_\w+</name>\n<value><string>[^<]*</string></value>\n</member>\n`)
	aboutCourses  = regexp.MustCompile(`<value><struct>\n<member><name>name</name>\n<value><string>Home \| sp</string>(?s:.*?)</struct></value>\n`)
)

func TestRecordedRequestsGetTheRecordedAnswers(t *testing.T) {
	tests := []struct {
		capture string
		caller  string // whose key opens the answer
		prepare func(*testing.T, *mnetSite, *clock, mnetSession)
	}{
		{"system-keyswap", "sp", nil},
		{"ok-plain-keyswap", "stranger", nil},
		{"system-listServices", "sp", nil},
		{"system-listMethods", "sp", nil},
		{"system-methodHelp", "sp", nil},
		{"system-methodSignature", "sp", nil},
		{"user_authorise", "sp", issue},
		{"user_authorise-with-picture", "sp", issue},
		{"ok-replayed-token-first", "sp", issue},
		{"ok-replayed-token-second", "sp", issue},
		{"go-other-peer-redeems", "sp2-old", issue},
		{"err-expired-token", "sp", func(t *testing.T, m *mnetSite, c *clock, row mnetSession) {
			issue(t, m, c, row)
			c.add(31 * time.Second)
		}},
		{"err-unknown-token", "sp", nil},
		{"kill_children", "sp", issue},
		{"keepalive_server", "sp", issue},
		{"update_enrolments", "sp", issue},
		{"fetch_theme_info", "sp", nil},
		{"ok-replayed-envelope", "sp", nil},
		{"ok-timestamp-plus-1day", "sp", nil},
		{"ok-timestamp-minus-1day", "sp", nil},
		{"ok-other-content-type", "sp", nil},
		{"err-bad-method-syntax", "sp", nil},
		{"err-missing-params", "sp", nil},
		{"err-not-permitted-method", "sp", nil},
		{"err-unknown-method", "sp", nil},
		{"err-plain-listMethods", "sp", nil},
		{"err-plain-unsigned", "sp", nil},
		{"err-sealed-for-wrong-key", "sp", nil},
		{"err-signed-not-encrypted", "sp", nil},
		{"err-unknown-peer", "sp", nil},
		{"err-unsigned-but-encrypted", "sp", nil},
		{"err-wrong-signing-key", "sp", nil},
	}
	for _, tt := range tests {
		t.Run(tt.capture, func(t *testing.T) {
			c := &clock{now: time.Unix(1795336500, 0)}
			key, caller := capturedKey(t, "idp"), capturedKey(t, tt.caller)
			u := learner()
			h, err := NewHome(HomeOptions{
				Wwwroot: mustWwwroot(t, "http://idp.test:8080"), Users: []User{u}, Key: key, Now: c.read,
				Peers: []*gateway.Peer{capturedPeer(t, "http://sp.test:8090", "sp"), capturedPeer(t, "http://sp2.test", "sp2-old")},
			})
			if err != nil {
				t.Fatal(err)
			}
			row := mnetSession{userID: u.ID, username: u.Username, hostID: 3}
			if request, err := os.ReadFile(filepath.Join(captures, tt.capture, "request.xmlrpc.xml")); err == nil {
				if _, params, err := mnet.DecodeCall(request); err == nil && len(params) == 2 {
					row.token, row.userAgent = mnet.Text(params[0]), mnet.Text(params[1])
				}
			}
			if tt.prepare != nil {
				tt.prepare(t, h.mnet, c, row)
			}
			r := httptest.NewRequest(http.MethodPost, "/mnet/xmlrpc/server.php", bytes.NewReader(captured(t, tt.capture, "request.xml")))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if got := w.Header().Get("Content-Type"); got != "text/xml; charset=utf-8" {
				t.Errorf("content type %q", got)
			}
			got := open(t, w.Code, w.Body.Bytes(), caller, key.Certificate())
			want := open(t, http.StatusOK, captured(t, tt.capture, "response.xml"), caller, key.Certificate())
			want.Doc = aboutCourses.ReplaceAllString(aboutPictures.ReplaceAllString(want.Doc, ""), "")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-recorded +ours)\n%s", diff)
			}
		})
	}
}

// issue puts the token of the recorded request into the table.
func issue(_ *testing.T, m *mnetSite, c *clock, row mnetSession) {
	row.confirmBy = c.read().Add(tokenLife)
	m.saveRow(row)
}

func TestARequestSealedForAnOldKeyIsToldTheNewOne(t *testing.T) {
	home := capturedPeer(t, "http://idp.test:8080", "idp")
	f, err := NewForum(ForumOptions{Wwwroot: mustWwwroot(t, "http://sp2.test"), Key: capturedKey(t, "sp2-old"), Homes: []*gateway.Peer{home}})
	if err != nil {
		t.Fatal(err)
	}
	f.ArchiveKey(capturedKey(t, "sp2"))
	r := httptest.NewRequest(http.MethodPost, "/mnet/xmlrpc/server.php", bytes.NewReader(captured(t, "fault-7025-old-key", "request.xml")))
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	old := capturedKey(t, "sp2-old").Certificate()
	got := open(t, w.Code, w.Body.Bytes(), capturedKey(t, "idp"), old)
	want := open(t, http.StatusOK, captured(t, "fault-7025-old-key", "response.xml"), capturedKey(t, "idp"), old)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-recorded +ours)\n%s", diff)
	}
}

func TestWhatIsNoMessageGetsAPageInsteadOfAFault(t *testing.T) {
	h, err := NewHome(HomeOptions{Wwwroot: mustWwwroot(t, "http://idp.test:8080"), Key: capturedKey(t, "idp")})
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{"empty": "", "garbage": "garbage", "other xml": "<a/>", "too large": strings.Repeat(" ", mnet.MaxBody+1)} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/mnet/xmlrpc/server.php", strings.NewReader(body)))
			if w.Code != http.StatusNotFound || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
				t.Errorf("got %d as %s", w.Code, w.Header().Get("Content-Type"))
			}
		})
	}
}

func TestAMethodOfAServiceThatIsNotPublishedIsRefused(t *testing.T) {
	peer := capturedPeer(t, "http://sp.test:8090", "sp")
	peer.Publish = []string{gateway.ServiceSSOSP}
	h, err := NewHome(HomeOptions{Wwwroot: mustWwwroot(t, "http://idp.test:8080"), Key: capturedKey(t, "idp"), Peers: []*gateway.Peer{peer}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.mnet.dispatch(t.Context(), h.mnet.peers[0], "auth/mnet/auth.php/user_authorise", []mnet.Value{"a", "b"})
	var refused *mnet.Fault
	if !errors.As(err, &refused) || refused.Code != 707 {
		t.Errorf("got %v", err)
	}
}
