package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// callee is a peer that commands call, and the configuration that knows it.
type callee struct {
	config string
	peer   string
	key    *mnet.Key // the peer's current one
	ours   *mnet.Key
	server *mnet.Server
	asked  []mnet.Value // the method last called and its parameters

	// instead answers in the server's place, if it is set.
	instead http.HandlerFunc
}

func newCallee(t *testing.T, grants string) *callee {
	t.Helper()
	c := &callee{}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.instead != nil {
			c.instead(w, r)
			return
		}
		c.server.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	c.peer = front.URL
	home := wwwroot(t, "https://home.test")
	newKey := func(w gateway.Wwwroot) *mnet.Key {
		key, err := mnet.NewKey(w, time.Now(), mnet.DefaultLifetime)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	c.key, c.ours = newKey(wwwroot(t, c.peer)), newKey(home)
	c.server = &mnet.Server{
		Site: wwwroot(t, c.peer), Keys: func() []*mnet.Key { return []*mnet.Key{c.key} },
		Peer: func(_ context.Context, name string) (*gateway.Peer, *gateway.Certificate, error) {
			if name != home.String() {
				return nil, nil, nil
			}
			return &gateway.Peer{Wwwroot: home, Publish: []string{gateway.ServiceSSOSP, gateway.ServiceMnetEnrol}}, c.ours.Certificate(), nil
		},
	}
	dir := t.TempDir()
	c.config = filepath.Join(dir, "jumpgate.yaml")
	writeFile(t, filepath.Join(dir, "home.pem"), string(c.ours.PEM()))
	writeFile(t, filepath.Join(dir, "peer.pem"), c.key.Certificate().PEM())
	writeFile(t, c.config, fmt.Sprintf(`
state_dir: state
sites:
  - wwwroot: https://home.test
    upstream: http://127.0.0.1:8081
    key: home.pem
    identity: {source: moodle-web}
    peers:
      - {wwwroot: %q, certificate: peer.pem, subscribe: [%s]}
`, c.peer, grants))
	return c
}

// offer lets the peer answer calls of a method.
func (c *callee) offer(service, method string, answer mnet.Value, err error) {
	c.server.Methods = append(c.server.Methods, mnet.Method{Name: method, Service: service, Call: func(_ context.Context, call *mnet.Call) (mnet.Value, error) {
		c.asked = append([]mnet.Value{call.Method}, call.Params...)
		return answer, err
	}})
}

// said is what a command has printed, with NAMEs for what differs each time.
type said struct {
	out, err string
	code     int
}

func (c *callee) run(t *testing.T, args ...string) said {
	t.Helper()
	var out, errs bytes.Buffer
	term := &terminal{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs}
	code := term.run(slices.Insert(args, 2, "-c", c.config))
	names := strings.NewReplacer(c.peer, "PEER", c.ours.Certificate().Fingerprint().String(), "OURS", c.key.Certificate().Fingerprint().String(), "THEIRS")
	return said{names.Replace(out.String()), names.Replace(errs.String()), code}
}

func expect(t *testing.T, got, want said) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(said{})); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}

func TestCallsAreMadeAndPrinted(t *testing.T) {
	c := newCallee(t, "sso_sp")
	c.offer(gateway.ServiceSSOSP, "auth/mnet/auth.php/kill_child", true, nil)
	c.offer(gateway.ServiceSSOSP, "a/bc", mnet.Struct{
		{Name: "text", Value: "a\x07\u202eb"}, {Name: "a\nb", Value: mnet.Array{1, 2.5, mnet.Array{}, mnet.Struct{}}},
		{Name: "long", Value: strings.Repeat("ü", 250)}, {Name: "key", Value: c.key.Certificate().PEM()},
	}, nil)

	expect(t, c.run(t, "mnet", "call", c.peer, "kill_child", "ada", "string:int:5"), said{out: "true\n"})
	if diff := cmp.Diff([]mnet.Value{"auth/mnet/auth.php/kill_child", "ada", "int:5"}, c.asked); diff != "" {
		t.Error(diff)
	}
	expect(t, c.run(t, "mnet", "call", "--", strings.TrimPrefix(c.peer, "http://"), "a/bc",
		"int:-5", "bool:true", "array:[1,\"a\"]", `json:{"z":{"b":1},"a":[]}`, "-x", "a:b"),
		said{out: `{
  text: "a�\u202eb"
  "a\nb": [
    1
    2.5
    []
    {}
  ]
  long: "` + strings.Repeat("ü", maxShown/2) + `"… (500 bytes)
  key: certificate THEIRS, valid until ` + c.key.Certificate().NotAfter.UTC().Format(time.DateOnly) + `
}
`})
	if diff := cmp.Diff([]mnet.Value{"a/bc", -5, true, mnet.Array{1, "a"},
		mnet.Struct{{Name: "z", Value: mnet.Struct{{Name: "b", Value: 1}}}, {Name: "a", Value: mnet.Array{}}}, "-x", "a:b"}, c.asked); diff != "" {
		t.Error(diff)
	}
	expect(t, c.run(t, "mnet", "call", "--json", c.peer, "listServices"), said{out: `{"value":[` +
		`{"name":"mnet_enrol","apiversion":"1","publish":"1","subscribe":"0"},{"name":"sso_sp","apiversion":"1","publish":"1","subscribe":"0"}]}` + "\n"})
}

func TestCallsThatCannotBeMeant(t *testing.T) {
	c := newCallee(t, "sso_sp")
	for _, test := range []struct {
		args []string
		err  string
	}{
		{[]string{"frobnicate"}, `"frobnicate" is no method that is known by its last part`},
		{[]string{"a/bc", "int:x"}, `"int:x": not a whole number of 32 bits`},
		{[]string{"a/bc", "int:4294967296"}, `not a whole number of 32 bits`},
		{[]string{"a/bc", "bool:maybe"}, `"bool:maybe": neither true nor false`},
		{[]string{"a/bc", "array:{}"}, `"array:{}": not an array`},
		{[]string{"a/bc", "json:{"}, `"json:{": json: unexpected EOF`},
		{[]string{"a/bc", "--timeout", "2m"}, `--timeout 2m0s is not between 0 and 60s`},
		{[]string{"a/bc", "--timeout", "0"}, `--timeout 0s is not between 0 and 60s`},
	} {
		got := c.run(t, append([]string{"mnet", "call", c.peer}, test.args...)...)
		if got.code != exitUsage || got.out != "" || !strings.Contains(got.err, test.err) || !strings.Contains(got.err, "jumpgate: hint: ") {
			t.Errorf("%q: %+v", test.args, got)
		}
	}
	expect(t, c.run(t, "mnet", "call", "https://other.test", "listServices"),
		said{code: 1, err: "jumpgate: error: \"https://other.test\" is not a peer of https://home.test\njumpgate: hint: jumpgate peer list shows them\n"})
}

func TestRefusedCallsAreExplained(t *testing.T) {
	plain := func(code int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Write(mnet.EncodeFault(&mnet.Fault{Code: code, String: text}))
		}
	}
	for _, test := range []struct {
		name string
		edit func(*callee)
		err  string
		hint string
	}{
		{"by a fault that has a meaning", func(c *callee) { c.offer(gateway.ServiceSSOSP, "a/bc", nil, &mnet.Fault{Code: 2, String: "x\x1by"}) },
			`call a/bc of PEER: fault 2: "x�y": the token was redeemed too late`, "the peer's own log may say more"},
		{"by a fault of its own", func(c *callee) { c.offer(gateway.ServiceSSOSP, "a/bc", nil, &mnet.Fault{Code: 4711, String: "x"}) },
			`call a/bc of PEER: fault 4711: "x"`, ""},
		{"since it is not published", func(c *callee) {},
			`call a/bc of PEER: fault 7012: "Unable to locate function, or function prohibited for RPC.": the peer has no such method for us: ` +
				`it does not exist, or its service is not published to us`, "jumpgate mnet call PEER listServices shows"},
		{"since the peer does not know us", func(c *callee) { c.instead = plain(7020, "no") },
			`unauthenticated fault 7020: "no": the peer does not know our wwwroot`, "the peer's administrator adds https://home.test under"},
		{"since a Moodle does not know us", func(c *callee) {
			c.instead = plain(0, "Coding error: Cache definition core/string requires simple keys")
		},
			`the peer does not know our wwwroot`, "the peer's administrator adds https://home.test under"},
		{"since our copy of the peer's certificate is too old", func(c *callee) { c.server.Keys = func() []*mnet.Key { return []*mnet.Key{c.ours} } },
			`unauthenticated fault 7023: `, "jumpgate peer refresh PEER fetches its current certificate; if that is the one we have"},
		{"since the peer's new key is another site's", func(c *callee) { c.server.Keys = func() []*mnet.Key { return []*mnet.Key{c.ours, c.key} } },
			`call a/bc of PEER: its new key: the certificate with fingerprint OURS names another site`, "jumpgate peer show PEER"},
		{"since the peer's copy of ours is old", func(c *callee) {
			lookup := c.server.Peer
			c.server.Peer = func(ctx context.Context, name string) (*gateway.Peer, *gateway.Certificate, error) {
				peer, _, err := lookup(ctx, name)
				return peer, c.key.Certificate(), err
			}
		}, `the message is sealed for none of our keys`, "fetches our certificate again; it is OURS"},
		{"by fault 710", func(c *callee) { c.instead = plain(710, "no") },
			`our signature does not fit`, "fetches our certificate again; it is OURS"},
		{"by a page", func(c *callee) {
			c.instead = func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<!DOCTYPE html><html>")) }
		}, `the answer is not sealed: this is no message of MNet: it is a page of HTML`, "a Moodle with networking off answers so"},
		{"by a missing page", func(c *callee) { c.instead = http.NotFound },
			`answered with HTTP status 404`, "a Moodle with networking off answers so"},
		{"by silence", func(c *callee) {
			c.instead = func(_ http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			}
		}, `context deadline exceeded`, "see whether the peer can be reached"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCallee(t, "sso_sp")
			test.edit(c)
			timeout := "60s"
			if test.name == "by silence" {
				timeout = "50ms"
			}
			got := c.run(t, "mnet", "call", c.peer, "a/bc", "--timeout", timeout)
			if got.code != exitFailure || got.out != "" || !strings.HasPrefix(got.err, "jumpgate: error: call a/bc of PEER: ") ||
				!strings.Contains(got.err, test.err) || !strings.Contains(got.err, "jumpgate: hint: ") || !strings.Contains(got.err, test.hint) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestARefusedCallIsAnObjectToo(t *testing.T) {
	c := newCallee(t, "sso_sp")
	c.offer(gateway.ServiceSSOSP, "a/bc", nil, &mnet.Fault{Code: 2, String: "no"})
	got := c.run(t, "mnet", "call", "--json", c.peer, "a/bc")
	if want := `{"fault":{"code":2,"string":"no","meaning":"the token was redeemed too late","authenticated":true}}` + "\n"; got.out != want || got.code != 1 {
		t.Errorf("%+v", got)
	}
}

func TestACallFollowsAPeerToItsNewKey(t *testing.T) {
	c := newCallee(t, "sso_sp")
	c.offer(gateway.ServiceSSOSP, "a/bc", "yes", nil)
	next, err := mnet.NewKey(wwwroot(t, c.peer), time.Now(), mnet.DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	c.server.Keys = func() []*mnet.Key { return []*mnet.Key{next, c.key} }
	for range 2 {
		if got := c.run(t, "mnet", "call", c.peer, "a/bc"); !strings.Contains(got.out, "yes") || got.code != 0 {
			t.Errorf("%+v", got)
		}
	}
}
