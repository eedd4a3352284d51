package store

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// failing is a hook that makes Redis answer with an error.
type failing struct{ err *atomic.Pointer[error] }

func (h failing) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h failing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := h.err.Load(); err != nil {
			cmd.SetErr(*err)
			return *err
		}
		return next(ctx, cmd)
	}
}

func (h failing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// watched is a Redis in a synctest bubble that can be broken, with its log.
type watched struct {
	*Redis
	err atomic.Pointer[error]
	log safeBuffer
}

func watch(t *testing.T) *watched {
	r, err := Open(Options{Addr: Embedded})
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{Redis: r}
	r.client.AddHook(failing{&w.err})
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { r.Watch(ctx, slog.New(slog.NewTextHandler(&w.log, nil))) })
	t.Cleanup(func() { cancel(); watching.Wait(); r.Close() })
	return w
}

func (w *watched) breakIt(s string) {
	var err error = &net.OpError{Op: "read", Err: net.UnknownNetworkError(s)}
	w.err.Store(&err)
}

func (w *watched) want(t *testing.T, up bool, lines int) {
	t.Helper()
	synctest.Wait()
	if got := w.Up(); got != up {
		t.Errorf("up %v, want %v", got, up)
	}
	if got := strings.Count(w.log.String(), "\n"); got != lines {
		t.Errorf("%d lines in the log, want %d:\n%s", got, lines, w.log.String())
	}
}

func TestWatchLogsEachTransitionOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		time.Sleep(time.Minute)
		w.want(t, true, 0)
		w.breakIt("gone")
		time.Sleep(watchEvery + time.Millisecond)
		w.want(t, false, 1)
		time.Sleep(time.Hour)
		w.want(t, false, 1)
		w.err.Store(nil)
		time.Sleep(watchEvery + time.Millisecond)
		w.want(t, true, 2)
	})
}

func TestWatchLearnsFromOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		site := w.Site(mustWwwroot("https://idp.example"))
		time.Sleep(watchPause)
		synctest.Wait()
		w.breakIt("gone")
		if _, err := site.Mint(t.Context(), grant()); err == nil {
			t.Fatal("minted")
		}
		w.want(t, false, 1)
		w.err.Store(nil)
		time.Sleep(watchPause)
		synctest.Wait()
		if _, err := site.Mint(t.Context(), grant()); err != nil {
			t.Fatal(err)
		}
		w.want(t, true, 2)
	})
}

func TestFailedOperationsDoNotMakeWatchBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		var pings atomic.Int64
		w.client.AddHook(countHook{&pings})
		w.breakIt("gone")
		site := w.Site(mustWwwroot("https://idp.example"))
		const operations = 2000
		for range operations {
			_, _ = site.Mint(t.Context(), grant())
			time.Sleep(time.Millisecond)
		}
		w.want(t, false, 1)
		if n := pings.Load() - operations; n > 5 {
			t.Errorf("%d pings in two seconds", n)
		}
	})
}

func TestCallerWhoGoesAwayDoesNotBringRedisDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := w.Site(mustWwwroot("https://idp.example")).Mint(ctx, grant())
		if err == nil || unavailable(err) {
			t.Errorf("a cancelled request: %v", err)
		}
		time.Sleep(time.Second)
		w.want(t, true, 0)
	})
}

// safeBuffer is a log to write and read at once.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
