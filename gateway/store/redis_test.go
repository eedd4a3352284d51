package store

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestOptionsThatCanNeverWorkAreRefused(t *testing.T) {
	for _, test := range []struct {
		name string
		o    Options
	}{
		{"no address", Options{}},
		{"another scheme", Options{Addr: "http://localhost"}},
		{"host and port alone", Options{Addr: "localhost:6379"}},
		{"no URL", Options{Addr: "redis://user:se%cret@localhost"}},
		{"a port that is none", Options{Addr: "redis://:secret@localhost:port"}},
		{"a database that is no number", Options{Addr: "redis://:secret@localhost/x"}},
		{"a parameter nobody knows", Options{Addr: "redis://:secret@localhost/0?colour=blue"}},
		{"both kinds of address", Options{Addr: "redis://localhost", Addrs: []string{"localhost:1"}}},
		{"a sentinel's master without sentinels", Options{Addr: "redis://localhost", MasterName: "m"}},
		{"a list entry without port", Options{Addrs: []string{"localhost"}}},
		{"a database of a cluster", Options{Addrs: []string{"localhost:1", "localhost:2"}, DB: 1}},
		{"a database of a cluster's URL", Options{Addr: "redis://localhost/1", Cluster: true}},
		{"an embedded cluster", Options{Addr: Embedded, Cluster: true}},
	} {
		r, err := Open(test.o)
		if err == nil {
			r.Close()
			t.Errorf("%s: accepted", test.name)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "se%cret") {
			t.Errorf("%s: the error shows the password: %v", test.name, err)
		}
	}
}

func TestOptionsChooseTheClient(t *testing.T) {
	custom := &tls.Config{MinVersion: tls.VersionTLS13}
	for _, test := range []struct {
		name, kind string
		o          Options
		check      func(*redis.Options) bool
	}{
		{"plain", "*redis.Client", Options{Addr: "redis://u:p@h:1/3"}, func(o *redis.Options) bool {
			return o.Addr == "h:1" && o.DB == 3 && o.Username == "u" && o.Password == "p" && o.TLSConfig == nil
		}},
		{"options win over the URL", "*redis.Client", Options{Addr: "redis://u:p@h:1/3", Username: "U", Password: "P", DB: 4}, func(o *redis.Options) bool {
			return o.DB == 4 && o.Username == "U" && o.Password == "P"
		}},
		{"TLS", "*redis.Client", Options{Addr: "rediss://h:1"}, func(o *redis.Options) bool { return o.TLSConfig.ServerName == "h" }},
		{"own TLS", "*redis.Client", Options{Addr: "rediss://h:1", TLS: custom}, func(o *redis.Options) bool {
			return o.TLSConfig.ServerName == "h" && o.TLSConfig.MinVersion == tls.VersionTLS13 && custom.ServerName == ""
		}},
		{"Unix socket", "*redis.Client", Options{Addr: "unix:///run/redis.sock"}, func(o *redis.Options) bool { return o.Network == "unix" }},
		{"Sentinel", "*redis.Client", Options{Addrs: []string{"a:1"}, MasterName: "m"}, func(o *redis.Options) bool { return o.Addr == "FailoverClient" }},
		{"Cluster", "*redis.ClusterClient", Options{Addrs: []string{"a:1"}}, nil},
		{"Cluster by URL", "*redis.ClusterClient", Options{Addr: "redis://a:1", Cluster: true}, nil},
	} {
		r := open(t, test.o)
		if kind := fmt.Sprintf("%T", r.Client()); kind != test.kind {
			t.Errorf("%s: %s", test.name, kind)
		} else if test.check != nil && !test.check(r.Client().(*redis.Client).Options()) {
			t.Errorf("%s: %+v", test.name, r.Client().(*redis.Client).Options())
		}
	}
}

func TestRedisDownIsNamedAndQuick(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // accepts nothing: the kernel connects, nobody answers
	for name, addr := range map[string]string{
		"nobody listens": "unix:///nonexistent/socket",
		"nobody answers": "redis://" + listener.Addr().String(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := open(t, Options{Addr: addr})
			site, b := r.Site(peer), newBrowser(r.Site(peer))
			b.cookie = &http.Cookie{Name: cookieName, Value: random(40)}
			operations := map[string]func() error{
				"ping":  func() error { return r.Ping(t.Context()) },
				"mint":  func() error { _, err := site.Mint(t.Context(), grant()); return err },
				"spend": func() error { return site.Spend(t.Context(), PerUser("ada", hourly(1))) },
				"mint with limits": func() error {
					_, err := site.Mint(t.Context(), grant(), PerUser("ada", hourly(1)))
					return err
				},
				"redeem":   func() error { _, err := site.Redeem(t.Context(), nonce(), random(40), redeemer()); return err },
				"replayed": func() error { _, err := site.Replayed(t.Context(), nonce()); return err },
				"claim": func() error {
					_, won, err := site.Claim(t.Context(), random(40), random(22), "l", grant())
					if won {
						t.Error("won")
					}
					return err
				},
				"read session": func() error {
					session, err := b.Get(b.request(), cookieName)
					if session == nil || !session.IsNew {
						t.Error("no session to go on with")
					}
					return err
				},
				"write session": func() error { return b.write(t, "k", "v") },
				"cache":         func() error { _, err := site.Cache("c").Get(t.Context(), "k"); return err },
			}
			for operation, do := range operations {
				began := time.Now()
				if err := do(); !errors.Is(err, ErrUnavailable) {
					t.Errorf("%s: %v, want ErrUnavailable", operation, err)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("%s took %s", operation, took)
				}
			}
		})
	}
}

func TestRefusalsOfRedisAreUnavailable(t *testing.T) {
	for msg, want := range map[string]bool{
		"LOADING Redis is loading the dataset in memory":               true,
		"READONLY You can't write against a read only replica.":        true,
		"OOM command not allowed when used memory > 'maxmemory'.":      true,
		"MASTERDOWN Link with MASTER is down":                          true,
		"NOPERM this user has no permissions to run the 'set' command": true,
		"ERR max number of clients reached":                            true,
		"ERR Error running script (call to f_0): @user_script:5: @user_script: 5: -OOM command not allowed when used memory > 'maxmemory'.": true,
		"WRONGTYPE Operation against a key holding the wrong kind of value":                                                                 false,
		"ERR unknown command": false,
	} {
		if got := unavailable(fmt.Errorf("op: %w", redisError(msg))); got != want {
			t.Errorf("%s: unavailable %v, want %v", msg, got, want)
		}
	}
}

// redisError is an error as a Redis answers it.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

func TestRealRefusalsAreUnavailable(t *testing.T) {
	for _, test := range []struct{ name, parameter, value string }{
		{"memory full", "maxmemory", "1"},
		{"replicas missing", "min-replicas-to-write", "1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, Options{Addr: ownServer(t).url()})
			b := newBrowser(f.Site)
			j := b.plant(t, "/1")
			if err := f.r.client.ConfigSet(t.Context(), test.parameter, test.value).Err(); err != nil {
				t.Fatal(err)
			}
			_, err1 := f.Mint(t.Context(), grant())
			_, err2 := f.Redeem(t.Context(), nonce(), random(40), redeemer())
			_, _, err3 := f.Claim(t.Context(), b.cookie.Value, j.ID, "login", grant())
			err4 := b.write(t, "k", "v")
			err5 := f.r.Ping(t.Context())
			for i, err := range []error{err1, err2, err3, err4, err5} {
				if !errors.Is(err, ErrUnavailable) {
					t.Errorf("operation %d: %v, want ErrUnavailable", i+1, err)
				}
			}
			if err := f.r.client.ConfigSet(t.Context(), test.parameter, "0").Err(); err != nil {
				t.Fatal(err)
			}
			if _, won, err := f.Claim(t.Context(), b.cookie.Value, j.ID, "login", grant()); err != nil || !won {
				t.Errorf("the jump did not survive: %v, %v", won, err)
			}
		})
	}
}

func TestRestartInTheMiddleLosesNothing(t *testing.T) {
	server := ownServer(t, "--appendonly", "yes", "--appendfsync", "always")
	f := newFixture(t, Options{Addr: server.url()})
	b := newBrowser(f.Site)
	j := b.plant(t, "/1")
	token, err := f.Mint(t.Context(), grant())
	if err != nil {
		t.Fatal(err)
	}
	server.stop()
	if _, err := f.Redeem(t.Context(), nonce(), token, redeemer()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("while it is down: %v", err)
	}
	if err := server.start(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Redeem(t.Context(), nonce(), token, redeemer()); err != nil {
		t.Errorf("token: %v", err)
	}
	if _, won, err := f.Claim(t.Context(), b.cookie.Value, j.ID, "login", grant()); err != nil || !won {
		t.Errorf("jump: %v, %v", won, err)
	}
}

func TestRestartWithoutPersistenceIsAClearAnswer(t *testing.T) {
	server := ownServer(t)
	f := newFixture(t, Options{Addr: server.url()})
	b := newBrowser(f.Site)
	j := b.plant(t, "/1")
	token, err := f.Mint(t.Context(), grant())
	if err != nil {
		t.Fatal(err)
	}
	server.stop()
	if err := server.start(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Redeem(t.Context(), nonce(), token, redeemer()); !errors.Is(err, ErrNoToken) {
		t.Errorf("token: %v, want ErrNoToken", err)
	}
	if _, won, err := f.Claim(t.Context(), b.cookie.Value, j.ID, "login", grant()); err != nil || won {
		t.Errorf("jump: %v, %v", won, err)
	}
	old := b.cookie.Value
	if b.plant(t, "/2"); b.cookie.Value == old {
		t.Error("the lost session's ID lives on")
	}
}

func TestClusterTakesScriptsAndTransactions(t *testing.T) {
	port := freePort(t)
	server := ownServer(t, "--port", fmt.Sprint(port), "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1", "--bind", "127.0.0.1")
	node := redis.NewClient(&redis.Options{Addr: server.socket()})
	defer node.Close()
	if err := node.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if info, _ := node.ClusterInfo(t.Context()).Result(); strings.Contains(info, "cluster_state:ok") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	f := newFixture(t, Options{Addrs: []string{fmt.Sprintf("127.0.0.1:%d", port)}})
	b := newBrowser(f.Site)
	first, second := b.plant(t, "/1"), b.plant(t, "/2")
	f.wantTrips(t, 2, func() {
		token, won, err := f.Claim(t.Context(), b.cookie.Value, first.ID, "login", grant())
		if err != nil || !won {
			t.Fatal(won, err)
		}
		if _, err := f.Redeem(t.Context(), nonce(), token, redeemer()); err != nil {
			t.Error(err)
		}
	})
	extended, err := f.ExtendPeerSessions(t.Context(), peer, []string{"ada", "bob"}, time.Hour, true)
	wantVisits(t, extended.Live, err, visit{"ada", peer, browserA, "sealed"})
	live, _, err := f.ListPeerSessions(t.Context(), 10)
	wantVisits(t, live, err, visit{"ada", peer, browserA, "sealed"})
	ended, err := f.EndHomeSession(t.Context(), f.Ending(homeA))
	wantVisits(t, ended, err, visit{"ada", peer, browserA, "sealed"})
	if err := f.r.client.(*redis.ClusterClient).ForEachMaster(t.Context(), func(ctx context.Context, node *redis.Client) error {
		return node.ScriptFlush(ctx).Err()
	}); err != nil {
		t.Fatal(err)
	}
	limits := []Charge{PerUser("ada", hourly(2)), PerPeer(peer, hourly(3))}
	if _, err := f.Mint(t.Context(), grant(), limits...); err != nil {
		t.Errorf("with limits: %v", err)
	}
	if _, won, err := f.Claim(t.Context(), b.cookie.Value, second.ID, "login", grant(), limits...); err != nil || !won {
		t.Errorf("with forgotten scripts: %v, %v", won, err)
	}
	r := b.request()
	session, err := b.Get(r, cookieName)
	if err != nil {
		t.Fatal(err)
	}
	session.Options.MaxAge = -1
	if err := session.Save(r, httptest.NewRecorder()); err != nil {
		t.Errorf("delete: %v", err)
	}
	if err := f.r.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func freePort(t *testing.T) int {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		if port < 55000 { // the cluster bus takes the port 10,000 above
			return port
		}
	}
	t.Skip("no free port below 55,000")
	return 0
}

func TestWhatMustNotRunTwiceIsNotSentTwice(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(*Site) error
		sent int64
	}{
		{"redeem", func(s *Site) error { _, err := s.Redeem(t.Context(), nonce(), random(40), redeemer()); return err }, 1},
		{"replayed", func(s *Site) error { _, err := s.Replayed(t.Context(), nonce()); return err }, 1},
		{"mint", func(s *Site) error { _, err := s.Mint(t.Context(), grant()); return err }, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr, sent := deafServer(t)
			r := open(t, Options{Addr: "redis://" + addr})
			if err := test.do(r.Site(peer)); !errors.Is(err, ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
			if got := sent.Load(); got != test.sent {
				t.Errorf("sent %d times, want %d", got, test.sent)
			}
		})
	}
}

// deafServer greets as Redis does, reads the first command on each connection
// and hangs up.
func deafServer(t *testing.T) (addr string, sent *atomic.Int64) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sent = &atomic.Int64{}
	done := make(chan struct{})
	t.Cleanup(func() { listener.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(conn)
			_, _ = readCommand(in) // HELLO
			_, _ = io.WriteString(conn, "-ERR unknown command\r\n")
			if name, err := readCommand(in); err == nil && name != "" {
				sent.Add(1)
			}
			conn.Close()
		}
	}()
	return listener.Addr().String(), sent
}

// readCommand reads a RESP array and returns its first element.
func readCommand(in *bufio.Reader) (name string, err error) {
	var n int
	if _, err := fmt.Fscanf(in, "*%d\r\n", &n); err != nil {
		return "", err
	}
	for i := range n {
		var size int
		if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
			return "", err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(in, text); err != nil {
			return "", err
		}
		if i == 0 {
			name = string(text[:size])
		}
	}
	return name, nil
}
