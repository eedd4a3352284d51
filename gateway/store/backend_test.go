package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

// shared is a redis-server for all tests that do not restart it. Each test has
// a site of its own.
var shared struct {
	once sync.Once
	*redisServer
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.redisServer != nil {
		shared.stop()
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// redisServer is a redis-server on a Unix socket in a directory of its own.
type redisServer struct {
	dir  string
	args []string
	cmd  *exec.Cmd
}

func startServer(dir string, args ...string) (*redisServer, error) {
	s := &redisServer{dir: dir, args: args}
	return s, s.start()
}

func (s *redisServer) start() error {
	args := append([]string{"--port", "0", "--unixsocket", s.socket(), "--dir", s.dir, "--save", "", "--logfile", "log"}, s.args...)
	s.cmd = exec.Command("redis-server", args...)
	if err := s.cmd.Start(); err != nil {
		return err
	}
	client := redis.NewClient(&redis.Options{Addr: s.socket(), MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	var err error
	for range 200 {
		if err = client.Ping(context.Background()).Err(); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond) // of a process: no clock of ours to fake
	}
	s.stop()
	return fmt.Errorf("redis-server does not answer: %w", err)
}

// stop ends the server as a supervisor would.
func (s *redisServer) stop() {
	_ = s.cmd.Process.Signal(os.Interrupt)
	_ = s.cmd.Wait()
}

func (s *redisServer) socket() string { return filepath.Join(s.dir, "s") }
func (s *redisServer) url() string    { return "unix://" + s.socket() }

// needRedis skips, or fails if JUMPGATE_REQUIRE names redis, where no
// redis-server is installed.
func needRedis(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("JUMPGATE_REQUIRE"), ","), "redis") {
		t.Fatal("redis-server is required and not installed")
	}
	t.Skip("redis-server is not installed")
}

// ownServer starts a redis-server for one test.
func ownServer(t testing.TB, args ...string) *redisServer {
	t.Helper()
	needRedis(t)
	dir, err := os.MkdirTemp("", "store") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	s, err := startServer(dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop(); os.RemoveAll(dir) })
	return s
}

func sharedURL(t testing.TB) string {
	t.Helper()
	needRedis(t)
	shared.once.Do(func() {
		var dir string
		if dir, shared.err = os.MkdirTemp("", "store"); shared.err == nil {
			shared.redisServer, shared.err = startServer(dir)
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.url()
}

// clock is a clock that tests move.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// fixture is what each test gets: a site on some Redis, its clock, and the
// number of round trips made.
type fixture struct {
	*Site
	clock *clock
	trips *atomic.Int64
	again func() *Site // the same site through a second client, as another gateway would
}

var siteNumber atomic.Int64

// eachRedis runs the test against the embedded server and a real one.
func eachRedis(t *testing.T, test func(*testing.T, fixture)) {
	t.Run("embedded", func(t *testing.T) { test(t, newFixture(t, Options{Addr: Embedded})) })
	t.Run("redis-server", func(t *testing.T) { test(t, newFixture(t, Options{Addr: sharedURL(t)})) })
}

func newFixture(t testing.TB, o Options) fixture {
	t.Helper()
	f := fixture{clock: &clock{}, trips: &atomic.Int64{}}
	o.Now = f.clock.now
	w, err := gateway.ParseWwwroot(fmt.Sprintf("https://site%d.example/moodle", siteNumber.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	r := open(t, o)
	r.client.AddHook(countHook{f.trips})
	f.Site = r.Site(w)
	f.again = func() *Site {
		if o.Addr == Embedded {
			return r.Site(w)
		}
		return open(t, o).Site(w)
	}
	// Connect and teach Redis the scripts: neither is part of the steady state.
	for _, script := range []*redis.Script{scriptMint, scriptSpend, scriptSave, scriptClaim, scriptRedeem, scriptExtend, scriptEndPeers,
		scriptLand, scriptVisit, scriptVisits, scriptHold, scriptLetGo, scriptEndVisit, scriptRenew, scriptTurn, scriptClaimMail} {
		if err := script.Load(t.Context(), r.client).Err(); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func open(t testing.TB, o Options) *Redis {
	t.Helper()
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
			t.Error(err)
		}
	})
	return r
}

// wantTrips runs do and wants it to have cost exactly n round trips.
func (f fixture) wantTrips(t *testing.T, n int64, do func()) {
	t.Helper()
	before := f.trips.Load()
	do()
	if got := f.trips.Load() - before; got != n {
		t.Errorf("%d round trips, want %d", got, n)
	}
}

// countHook counts what is sent and awaited: a command or a whole pipeline.
type countHook struct{ n *atomic.Int64 }

func (h countHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h countHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.n.Add(1)
		return next(ctx, cmd)
	}
}

func (h countHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.n.Add(1)
		return next(ctx, cmds)
	}
}

func mustWwwroot(s string) gateway.Wwwroot {
	w, err := gateway.ParseWwwroot(s)
	if err != nil {
		panic(err)
	}
	return w
}

var peer = mustWwwroot("https://forum.example")

func grant() Grant {
	return Grant{
		User:      gateway.User{ID: 3, Username: "ada", FirstName: "Ada", LastName: "Lovelace", Email: "ada@example.org", Description: "ünïcode\n\"quoted\""},
		Peer:      peer,
		UserAgent: browserA,
		Home:      "sealed", HomeHash: HomeHash(homeA),
	}
}

// The hash of a User-Agent header, and a Moodle session.
const (
	browserA = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
	homeA    = "adaadaadaadaadaadaadaadaad"
)

// redeemer is who may redeem what grant stands for.
func redeemer() Redeemer { return Redeemer{Peer: peer, UserAgent: browserA, Life: 8 * time.Hour} }

// keys returns all keys of the site.
func (f fixture) keys(t *testing.T) []string {
	t.Helper()
	var keys []string
	iter := f.r.client.Scan(t.Context(), 0, "*", 1000).Iterator()
	for iter.Next(t.Context()) {
		if strings.HasPrefix(iter.Val(), f.prefix) {
			keys = append(keys, iter.Val())
		}
	}
	if err := iter.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
