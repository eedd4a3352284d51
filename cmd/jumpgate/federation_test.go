package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodletest"
)

// federation is a gateway, put together from a configuration file, between a
// stand-in home Moodle and a stand-in forum, each on a port of its own.
type federation struct {
	scene
	t       *testing.T
	home    *moodletest.Home
	log     *testLog
	config  *config.Config
	gateway atomic.Pointer[instance] // at the home's public address
	instead atomic.Pointer[url.URL]  // another process that is asked there, if any

	forumKey *mnet.Key
	forumRPC atomic.Pointer[http.HandlerFunc] // answers calls of the forum instead of it
}

// setting says what a federation is made of.
type setting struct {
	redis    string // where the gateway keeps its state; empty: embedded
	identity string // YAML of the identity mapping
	sessions moodletest.Sessions
	mfa      string // code of the home's second factor
	token    string // of the home's web services
	issuer   string // if not empty, the home has MNet, and the gateway its key
	peers    string // YAML of a further peer, in one line
	site     string // YAML of further fields of the home, in one line
	limits   string // YAML of the limits mapping; empty: the defaults
}

// newFederation starts a federation and ends it with the test.
func newFederation(t *testing.T, s setting) *federation {
	t.Helper()
	front, behind, forum := unstarted(t), unstarted(t), unstarted(t)
	f := &federation{t: t, log: &testLog{t: t}, scene: scene{Username: "ada", Password: "analytical"}}
	f.IDP = "http://localhost:" + port(front)
	f.SP = "http://127.0.0.1:" + port(forum)
	f.DeepLink = f.link(moodletest.SampleDeepLink)
	idp, sp := wwwroot(t, f.IDP), wwwroot(t, f.SP)
	key, err := mnet.NewKey(sp, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	f.forumKey = key
	var homeKey *mnet.Key
	if s.issuer != "" {
		if homeKey, err = mnet.NewKey(idp, time.Now(), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	f.configure(s, port(behind), key.Certificate().PEM(), homeKey)
	f.gateway.Store(f.newGateway())

	home, err := moodletest.NewHome(moodletest.HomeOptions{
		Wwwroot: idp, Sessions: s.sessions, MFACode: s.mfa, Token: s.token, Doors: true,
		Key: homeKey, Peers: []*gateway.Peer{{Wwwroot: sp, HostID: 5, Certificate: key.Certificate()}},
		Users: []moodletest.User{
			moodletest.SampleUser(f.Password),
			{Password: "root", Admin: true, User: gateway.User{Username: "root", FirstName: "Super", LastName: "User", Email: "root@home.test"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	there, err := moodletest.NewForum(moodletest.ForumOptions{
		Wwwroot: sp, Key: key, Homes: []*gateway.Peer{{Wwwroot: idp, Application: gateway.Moodle}},
		Discussions: moodletest.SampleDiscussions(time.Now()),
	})
	if err != nil {
		t.Fatal(err)
	}
	forum.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rpc := f.forumRPC.Load(); rpc != nil && r.URL.Path == gateway.Moodle.RPCPath() {
			(*rpc)(w, r)
			return
		}
		there.ServeHTTP(w, r)
	})
	f.home, behind.Config.Handler = home, home
	front.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if instead := f.instead.Load(); instead != nil {
			balancer(instead).ServeHTTP(w, r)
			return
		}
		f.gateway.Load().handler.ServeHTTP(w, r)
	})
	for _, server := range []*httptest.Server{front, behind, forum} {
		server.Start()
	}
	return f
}

// testLog keeps what gateways log, and shows it with the test's own.
type testLog struct {
	t  *testing.T
	mu sync.Mutex
	b  strings.Builder
}

func (l *testLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Write(line)
	return l.t.Output().Write(line)
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// configure writes and loads the configuration of the home's gateway.
func (f *federation) configure(s setting, behind, certificate string, key *mnet.Key) {
	f.t.Helper()
	dir := f.t.TempDir()
	writeFile(f.t, filepath.Join(dir, "forum.pem"), certificate)
	writeFile(f.t, filepath.Join(dir, "token"), s.token)
	issuer := ""
	if key != nil {
		writeFile(f.t, filepath.Join(dir, "home.key"), string(key.PEM()))
		issuer = "    issuer: " + s.issuer + "\n    key: home.key\n"
	}
	file := filepath.Join(dir, "jumpgate.yaml")
	writeFile(f.t, file, fmt.Sprintf(`
admin: {listen: "off"}
redis: %s
state_dir: state
limits: %s
sites:
  - wwwroot: %s
    upstream: http://127.0.0.1:%s
    identity: %s
    %s
%s    peers:
      - {wwwroot: %q, hostid: 5, certificate: forum.pem}
      %s
`, cmp.Or(s.redis, "embedded"), cmp.Or(s.limits, "{}"), f.IDP, behind, s.identity, s.site, issuer, f.SP, s.peers))
	var err error
	if f.config, err = config.Load(file); err != nil {
		f.t.Fatal(err)
	}
}

// newGateway starts one more gateway for the same site.
func (f *federation) newGateway() *instance {
	f.t.Helper()
	g, err := newInstance(context.Background(), f.config, slog.New(slog.NewTextHandler(f.log, nil)))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(g.close)
	return g
}

// link is a jump link to a page of the forum.
func (f *federation) link(page string) string {
	return f.IDP + "/auth/mnet/jump.php?hostwwwroot=" + url.QueryEscape(f.SP) + "&wantsurl=" + url.QueryEscape(page)
}

// unstarted is a server that has its address and no handler yet.
func unstarted(t *testing.T) *httptest.Server {
	s := httptest.NewUnstartedServer(nil)
	t.Cleanup(s.Close)
	return s
}

func port(s *httptest.Server) string {
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return port
}

func wwwroot(t *testing.T, s string) gateway.Wwwroot {
	t.Helper()
	w, err := gateway.ParseWwwroot(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// redisServer is a real redis-server that keeps what it has over a restart.
type redisServer struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	Client *redis.Client
}

// startRedis starts a redis-server on a Unix socket, or skips the test where
// there is none.
func startRedis(t *testing.T) *redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if strings.Contains(os.Getenv("JUMPGATE_REQUIRE"), "redis") {
			t.Fatal("redis-server is required (JUMPGATE_REQUIRE) and not installed")
		}
		t.Skip("redis-server is not installed")
	}
	s := &redisServer{t: t, dir: t.TempDir()}
	s.Client = redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket(), MaxRetries: -1})
	t.Cleanup(func() { s.Client.Close() })
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *redisServer) socket() string { return filepath.Join(s.dir, "s") }
func (s *redisServer) url() string    { return "unix://" + s.socket() }

func (s *redisServer) start() {
	s.t.Helper()
	s.cmd = exec.Command("redis-server", "--port", "0", "--unixsocket", s.socket(), "--dir", s.dir,
		"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--logfile", "log")
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	var err error
	for range 500 {
		if err = s.Client.Ping(context.Background()).Err(); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond) // a process starts: no clock of ours
	}
	s.t.Fatalf("redis-server does not answer: %v", err)
}

func (s *redisServer) stop() {
	s.cmd.Process.Signal(os.Interrupt)
	s.cmd.Wait()
}
