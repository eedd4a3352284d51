package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
)

// TestAMoodleCanAddUs does what Moodle's own form "Add host" does (protocol
// page, section 1).
func TestAMoodleCanAddUs(t *testing.T) {
	f := newFederation(t, setting{identity: "{source: moodle-web}"})
	us, forum := wwwroot(t, f.IDP), wwwroot(t, f.SP)
	key, err := mnet.NewKey(forum, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	client := &mnet.Client{Keys: func() []*mnet.Key { return []*mnet.Key{key} }, Site: forum}
	if name, err := client.Title(t.Context(), us); name == "" || err != nil {
		t.Errorf("our page has no title: %v", err)
	}
	cert, err := client.Keyswap(t.Context(), us, gateway.Moodle)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Name() != f.IDP || !cert.Names(us) || !cert.NotAfter.After(time.Now()) {
		t.Errorf("our certificate names %q until %s", cert.Name(), cert.NotAfter)
	}
	res, err := http.Get(f.IDP + "/mnet/publickey.php")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	if err != nil || string(page) != cert.PEM() || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("publickey.php shows %q, %v", page, err)
	}
}

// asker is a site with a key of its own that asks to become a peer.
type asker struct {
	wwwroot gateway.Wwwroot
	key     *mnet.Key // which it hands out
	forged  *mnet.Key // another one in its name
}

func newAsker(t *testing.T) *asker {
	t.Helper()
	server := unstarted(t)
	a := &asker{wwwroot: wwwroot(t, "http://127.0.0.1:"+port(server))}
	var err error
	if a.key, err = mnet.NewKey(a.wwwroot, time.Now(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if a.forged, err = mnet.NewKey(a.wwwroot, time.Now(), time.Hour); err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = &mnet.Server{Site: a.wwwroot, Keys: func() []*mnet.Key { return []*mnet.Key{a.key} }, Peer: nobody}
	server.Start()
	return a
}

// asks sends a keyswap with one of the keys.
func (a *asker) asks(t *testing.T, us string, key *mnet.Key) {
	t.Helper()
	client := &mnet.Client{Keys: func() []*mnet.Key { return []*mnet.Key{key} }, Site: a.wwwroot}
	if _, err := client.Keyswap(t.Context(), wwwroot(t, us), gateway.Moodle); err != nil {
		t.Fatal(err)
	}
}

// lines is a log that waits for a line.
type lines struct{ all chan string }

func (l lines) Write(line []byte) (int, error) {
	select {
	case l.all <- string(line):
	default: // the test is over
	}
	return len(line), nil
}

func (l lines) await(t *testing.T, text string) string {
	t.Helper()
	for {
		select {
		case line := <-l.all:
			if strings.Contains(line, text) {
				return line
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("the log does not say %q", text)
		}
	}
}

// registering starts a gateway at a loopback address with register_all and
// returns the address, its log and its directory of peers.
func registering(t *testing.T) (us string, log lines, dir string) {
	t.Helper()
	front := unstarted(t)
	us = "http://localhost:" + port(front)
	temp := t.TempDir()
	dir = filepath.Join(temp, "peers.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(temp, "jumpgate.yaml")
	writeFile(t, file, fmt.Sprintf(`
state_dir: state
sites:
  - wwwroot: %s
    upstream: http://127.0.0.1:1
    mnet: {register_all: true}
    peers_dir: peers.d
`, us))
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	log = lines{make(chan string, 1000)}
	g, err := newInstance(context.Background(), c, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.close)
	front.Config.Handler = g.handler
	front.Start()
	return us, log, dir
}

func TestWhoIsRegisteredMustHandOutTheSameCertificate(t *testing.T) {
	us, log, dir := registering(t)
	forger := newAsker(t)
	forger.asks(t, us, forger.forged)
	log.await(t, "was not registered")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Fatalf("written: %v, %v", entries, err)
	}
}

func TestStrangersAreCalledBackSeldom(t *testing.T) {
	s := newStrangers()
	now := time.Unix(1e9, 0)
	begin := func(host string, want bool) {
		t.Helper()
		if got := s.begin(host, now); got != want {
			t.Errorf("%s at %s: %t", host, now.UTC().Format(time.TimeOnly), got)
		}
	}
	begin("a", true)
	begin("b", true)
	begin("c", false) // two at once
	s.end()
	begin("c", true)
	s.end()
	s.end()
	begin("a", false) // once an hour
	for i := range 7 {
		begin(fmt.Sprint(i), true)
		s.end()
	}
	begin("d", false) // ten an hour
	now = now.Add(time.Hour)
	begin("d", true)
	s.end()
	begin("a", true)
	s.end()
	if len(s.calls) != 2 {
		t.Errorf("%d calls are remembered", len(s.calls))
	}
}

func TestStrangersLeadNobodyInside(t *testing.T) {
	for text, want := range map[string]bool{
		"93.184.215.14": true, "2606:2800:21f::1": true,
		"127.0.0.1": false, "::1": false, "10.1.2.3": false, "192.168.1.1": false, "172.16.0.1": false, "fd00::1": false,
		"169.254.169.254": false, "fe80::1": false, "fec0::1": false, "0.0.0.0": false, "::": false, "0.1.2.3": false, "100.64.0.1": false,
		"224.0.0.1": false, "ff02::1": false, "255.255.255.255": false, "198.18.0.1": false, "240.0.0.1": false,
		"64:ff9b::7f00:1": false, "2002:7f00:1::": false, "::7f00:1": false, "2001::1": false,
	} {
		if got := outside(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
	reached := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	defer server.Close()
	for _, host := range []string{"127.0.0.1", "localhost"} {
		address := "http://" + host + ":" + port(server)
		for home, want := range map[bool]bool{true: true, false: false} {
			before := reached
			res, err := outsideClient(home).Get(address)
			if err == nil {
				res.Body.Close()
			}
			if (err == nil) != want || (reached > before) != want {
				t.Errorf("%s from a home at loopback (%t): %v", address, home, err)
			}
		}
	}
}

func TestAnAcceptedSiteMustHandOutTheCertificateItAskedWith(t *testing.T) {
	redis := startRedis(t)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "peers.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "jumpgate.yaml")
	writeFile(t, file, fmt.Sprintf(`
redis: %s
state_dir: state
sites:
  - {wwwroot: "https://home.test", upstream: "http://127.0.0.1:1", identity: {source: moodle-web}, peers_dir: peers.d}
`, redis.url()))
	opened, err := store.Open(store.Options{Addr: redis.url()})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	state := opened.Site(wwwroot(t, "https://home.test"))
	a := newAsker(t)
	ask := func(key *mnet.Key) {
		t.Helper()
		if _, err := state.Ask(t.Context(), store.Request{Wwwroot: a.wwwroot, Certificate: key.Certificate(), Addr: netip.MustParseAddr("192.0.2.1")}); err != nil {
			t.Fatal(err)
		}
	}
	accept := func(more ...string) (code int, said string) {
		t.Helper()
		var out, complaints bytes.Buffer
		terminal := &terminal{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &complaints}
		code = terminal.run(append([]string{"peer", "accept", "-c", file, a.wwwroot.String()}, more...))
		return code, out.String() + complaints.String()
	}
	ask(a.forged)
	real, forged := a.key.Certificate().Fingerprint().String(), a.forged.Certificate().Fingerprint().String()
	for _, flags := range [][]string{{"--yes"}, {"--fingerprint", forged}} {
		if code, said := accept(flags...); code != exitFailure || !strings.Contains(said, real) || !strings.Contains(said, forged) || !strings.Contains(said, "nothing was written") {
			t.Errorf("%s: %d %s", flags, code, said)
		}
	}
	if code, said := accept(); code != exitUsage || !strings.Contains(said, "no terminal") {
		t.Errorf("without a terminal: %d %s", code, said)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "peers.d")); err != nil || len(entries) != 0 {
		t.Errorf("written: %v, %v", entries, err)
	}
	ask(a.key) // the site itself, in spite of whoever forged it
	if code, said := accept("--yes"); code != 0 {
		t.Errorf("%d %s", code, said)
	}
	if all, err := state.Requests(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("still waiting: %v, %v", all, err)
	}
}

func TestARefusalIsExplained(t *testing.T) {
	peer, us := wwwroot(t, "https://forum.test"), wwwroot(t, "https://home.test")
	theirs, err := mnet.NewKey(peer, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		err        error
		says, hint string
	}{
		{&mnet.Fault{Code: 7020}, "does not know https://home.test yet", "its administrator adds https://home.test, type Moodle"},
		{&mnet.Fault{Code: 0, String: "… Cache definition core/string requires simple keys"}, "does not know https://home.test yet (fault 0)", "Manage peers"},
		{&mnet.Fault{Code: 6003}, "does not know https://home.test yet", "Institutions"},
		{&mnet.Fault{Code: 710}, "another certificate of https://home.test", "saves the current key"},
		{&mnet.Fault{Code: 709}, "no certificate of https://home.test", "saves the current key"},
		{&mnet.Fault{Code: 7023}, "cannot open our messages", "jumpgate peer refresh https://forum.test"},
		{&mnet.Fault{Code: 7025}, "has a new key", "jumpgate peer refresh https://forum.test"},
		{mnet.ErrNotOpened, "https://forum.test has another certificate of https://home.test than the current one", "opens https://home.test under Site administration > Networking > Manage peers and saves the current key"},
		{mnet.ErrBadSignature, mnet.ErrBadSignature.Error(), "jumpgate peer refresh https://forum.test"},
		{&mnet.HeldKeyError{Peer: &gateway.Peer{Wwwroot: peer}, Certificate: theirs.Certificate()}, "does not vouch for", "jumpgate peer refresh https://forum.test"},
		{&mnet.Fault{Code: 1, String: "\x1b[1mred"}, `fault 1: "\x1b[1mred"`, "log"},
		{&mnet.MovedError{Site: peer}, "leads to another address", "$CFG->wwwroot"},
		{&tls.CertificateVerificationError{Err: errors.New("valid for \x1b[1m")}, "is not valid: valid for ?[1m", "browsers"},
		{&mnet.MovedError{Site: peer, To: wwwroot(t, "https://www.forum.test")}, "leads to https://www.forum.test", "did you mean https://www.forum.test?"},
		{&url.Error{Op: "Get", Err: &net.DNSError{IsNotFound: true, Name: "x"}}, `there is no host "forum.test" (DNS)`, "spelling"},
		{&url.Error{Op: "Get", Err: &net.DNSError{IsTimeout: true, Err: "timeout"}}, `the DNS does not say where "forum.test" is`, "try again"},
		{&net.OpError{Op: "dial", Err: errors.New("connection refused")}, "https://forum.test does not answer: connection refused", "connect"},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), "https://forum.test does not answer in time", "connect"},
		{errors.New("…/server.php answered with HTTP status 404"), "404", "MNet must be switched on at https://forum.test"},
	} {
		err := inWords(fmt.Errorf("outside: %w", c.err), peer, us)
		hint := err.(interface{ Hint() string }).Hint()
		if !strings.Contains(err.Error(), c.says) || !strings.Contains(hint, c.hint) {
			t.Errorf("%v: %q, hint %q", c.err, err, hint)
		}
	}
}
