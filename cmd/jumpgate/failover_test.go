package main

import (
	"bufio"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodletest"
)

// balancer passes requests on as a load balancer does that has just learned
// where a gateway lives.
func balancer(to *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{DisableKeepAlives: true}, // the next may be another gateway
	}
}

// process is a gateway in a process of its own, which can be killed.
type process struct {
	cmd     *exec.Cmd
	address *url.URL
}

// startProcess starts one more gateway of the federation's home.
func (f *federation) startProcess() *process {
	f.t.Helper()
	b, err := os.ReadFile(f.config.File)
	if err != nil {
		f.t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(f.config.File), "process.yaml")
	writeFile(f.t, file, "listen: 127.0.0.1:0\n"+string(b))
	p := &process{cmd: exec.Command("jumpgate", "serve", "-c", file)}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(p.kill)
	lines := bufio.NewScanner(stderr)
	for p.address == nil && lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), "msg=serving"); ok {
			_, rest, _ = strings.Cut(rest, " address=")
			address, _, _ := strings.Cut(rest, " ")
			p.address = &url.URL{Scheme: "http", Host: address}
		}
	}
	if p.address == nil {
		f.t.Fatal("the gateway ended before it served")
	}
	go func() { // until the process ends
		for lines.Scan() {
		}
	}()
	return p
}

// kill is kill -9.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// newPair starts a federation with two gateways on one real Redis; requests go
// to the first.
func newPair(t *testing.T) (f *federation, first, second *process) {
	r := startRedis(t)
	f = newFederation(t, setting{
		redis: r.url(), identity: "{source: moodle-redis, prefix: mdl_, mfa: false}",
		sessions: moodletest.Sessions{Redis: r.Client, Prefix: "mdl_"},
	})
	first, second = f.startProcess(), f.startProcess()
	f.instead.Store(first.address)
	return f, first, second
}

// stopAt makes a visitor stop before it follows a redirect to an address with
// that beginning, and returns where it would have gone.
func (v *visitor) stopAt(prefix, link string) string {
	v.t.Helper()
	at := ""
	followed := v.client.CheckRedirect
	v.client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), prefix) {
			at = r.URL.String()
			return http.ErrUseLastResponse
		}
		return followed(r, via)
	}
	v.follow(link)
	v.client.CheckRedirect = followed
	if at == "" {
		v.t.Fatalf("%s did not lead to %s but to %s", link, prefix, v.at)
	}
	return at
}

func TestAGatewayThatIsKilledTakesNobodyWithIt(t *testing.T) {
	t.Run("between the jump and the login", func(t *testing.T) {
		f, first, second := newPair(t)
		v := newVisitor(t).follow(f.DeepLink)
		first.kill()
		f.instead.Store(second.address)
		v.login(f.Username, f.Password).reads(f.scene, f.Username)
	})
	t.Run("between the token and the landing", func(t *testing.T) {
		f, first, second := newPair(t)
		v := newVisitor(t).follow(f.IDP+"/login/index.php").login(f.Username, f.Password)
		landing := v.stopAt(f.SP, f.DeepLink)
		first.kill()
		f.instead.Store(second.address)
		v.follow(landing).reads(f.scene, f.Username)
		// And never twice, in whatever browser.
		for _, again := range []*visitor{v, newVisitor(t)} {
			if again.follow(landing); !strings.Contains(again.page, "the mnet session does not exist") {
				t.Errorf("a token was good for a second landing, at %s", again.at)
			}
		}
		v.follow(f.DeepLink).reads(f.scene, f.Username)
	})
	t.Run("before the forum is answered", func(t *testing.T) {
		f, first, second := newPair(t)
		v := newVisitor(t).follow(f.IDP+"/login/index.php").login(f.Username, f.Password)
		landing := v.stopAt(f.SP, f.DeepLink)
		first.kill()
		v.follow(landing) // nobody answers user_authorise
		if !strings.Contains(v.page, "Your MNET communication has failed") {
			t.Errorf("the landing ended at %s:\n%s", v.at, v.page)
		}
		f.instead.Store(second.address)
		v.follow(f.DeepLink).reads(f.scene, f.Username) // the learner clicks again
	})
}

// Whenever a rotation is killed, learners land: the forum knows the key of the
// site as it was at some time before, and every gateway can still tell it.
func TestARotationThatIsKilledLosesNoKey(t *testing.T) {
	f, _, second := newPair(t)
	v := newVisitor(t).follow(f.IDP+"/login/index.php").login(f.Username, f.Password)
	v.follow(f.DeepLink).reads(f.scene, f.Username)
	dir := filepath.Join(f.config.StateDir, stateName(f.config.Sites[0].Wwwroot))
	ended := 0
	for i := range 16 {
		rotate := exec.Command("jumpgate", "key", "rotate", "-c", f.config.File)
		if err := rotate.Start(); err != nil {
			t.Fatal(err)
		}
		// Spread over the whole life of the command; which step it dies at is
		// left to chance, the outcome is not.
		time.Sleep(time.Duration(i) * 10 * time.Millisecond)
		rotate.Process.Kill()
		if rotate.Wait() == nil {
			ended++
		}
		if i%2 == 1 { // gateways come and go meanwhile
			second.kill()
			second = f.startProcess()
			f.instead.Store(second.address)
		}
		v.follow(f.DeepLink).reads(f.scene, f.Username)
	}
	t.Logf("%d of 16 rotations came to their end", ended)
	if out, err := exec.Command("jumpgate", "key", "rotate", "-c", f.config.File).CombinedOutput(); err != nil {
		t.Errorf("the last rotation: %v: %s", err, out)
	}
	v.follow(f.DeepLink).reads(f.scene, f.Username)
	keys, _, err := mnet.OpenKeyring(mnet.KeyringOptions{Dir: dir, Site: f.config.Sites[0].Wwwroot})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(keys.Keys()); n > 1+mnet.MaxArchived {
		t.Errorf("%d keys are kept", n)
	}
	if pem := newVisitor(t).follow(f.IDP + "/mnet/publickey.php").page; !strings.Contains(pem, "BEGIN CERTIFICATE") {
		t.Errorf("the certificate: %s", pem)
	}
}

func TestAGatewayWithAnotherKeyRefusesToStart(t *testing.T) {
	f, _, _ := newPair(t)
	b, err := os.ReadFile(f.config.File)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(f.config.File), "other.yaml")
	writeFile(t, file, "listen: 127.0.0.1:0\n"+strings.Replace(string(b), "state_dir: state", "state_dir: "+t.TempDir(), 1))
	out, err := exec.Command("jumpgate", "serve", "-c", file).CombinedOutput()
	for _, want := range []string{"its gateways have agreed on SHA256:", "hint: give all gateways of the site the same state_dir"} {
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %s", err, out)
		}
	}
	// Making that key the right one would shut out those that run.
	out, err = exec.Command("jumpgate", "key", "import", "--current", "-c", file).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "separate state directories") {
		t.Errorf("import: %v: %s", err, out)
	}
}
