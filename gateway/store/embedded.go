package store

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
)

const (
	// maxEmbeddedKeys bounds the embedded server: a token takes about 700
	// bytes. Where Redis would have reached its maxmemory, it refuses writes
	// as Redis does; nothing is pushed out.
	maxEmbeddedKeys = 500_000
	// embeddedTimeout is longer than what the clock's walk over so many keys
	// takes (about half a second).
	embeddedTimeout = 2 * time.Second
)

// embedded is miniredis in our process. Connections are pipes in memory;
// nothing listens.
type embedded struct {
	server *miniredis.Miniredis
	full   atomic.Bool

	mu     sync.Mutex // guards closed against a last dial of the pool
	closed bool

	stopClock func() // ends and awaits what run started
}

func startEmbedded() (*embedded, error) {
	e := &embedded{server: miniredis.NewMiniRedis()}
	conn, err := e.server.Dial() // the first one starts the server
	if err != nil {
		return nil, fmt.Errorf("embedded redis: %w", err)
	}
	e.server.Server().SetPreHook(e.refuseWhenFull)
	return e, conn.Close()
}

func (e *embedded) dial(context.Context, string, string) (net.Conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, net.ErrClosed
	}
	return e.server.Dial()
}

func (e *embedded) refuseWhenFull(peer *server.Peer, command string, _ ...string) bool {
	if !e.full.Load() {
		return false
	}
	switch command {
	case "SET", "EVAL", "EVALSHA", "HSET", "ZADD", "INCR", "INCRBY":
		peer.WriteError("OOM command not allowed when used memory > 'maxmemory'.")
		return true
	}
	return false
}

// run starts the server's clock. miniredis could run one itself (ClockTTL), but
// then every command walks over all keys; once a second is enough, because
// every record carries its own expiry besides.
func (e *embedded) run(client redis.UniversalClient) {
	ctx, cancel := context.WithCancel(context.Background())
	var clock sync.WaitGroup
	clock.Go(func() {
		last, interval := time.Now(), time.Second
		for sleep(ctx, interval, nil) {
			now := time.Now()
			e.server.FastForward(now.Sub(last))
			e.forgetVersions()
			e.judgeSize(ctx, client)
			last = now
			// With many keys the walk takes long, and commands wait for it:
			// spend at most a twentieth of the time on it.
			interval = max(time.Second, 20*time.Since(now))
		}
	})
	e.stopClock = func() { cancel(); clock.Wait() }
}

func (e *embedded) judgeSize(ctx context.Context, client redis.UniversalClient) {
	n, err := client.DBSize(ctx).Result()
	if err != nil {
		return
	}
	e.server.Lock() // scripts hold it: none sees a change half way
	defer e.server.Unlock()
	e.full.Store(n >= maxEmbeddedKeys)
}

func (e *embedded) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.server.Close()
}

// forgetVersions empties miniredis' record of how often each key changed. It
// is there for WATCH, which we do not use, and it keeps an entry for every key
// that ever was: one-time keys, such as tokens, would fill the memory. There
// is no method for it; if the field is ever renamed, a test fails and the
// server works on.
func (e *embedded) forgetVersions() {
	db := e.server.DB(0)
	field := reflect.ValueOf(db).Elem().FieldByName("keyVersion")
	if !field.IsValid() || field.Type() != reflect.TypeFor[map[string]uint]() {
		return
	}
	e.server.Lock() // every use of the field holds it
	defer e.server.Unlock()
	*(*map[string]uint)(unsafe.Pointer(field.UnsafeAddr())) = map[string]uint{}
}
