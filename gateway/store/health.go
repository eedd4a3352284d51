package store

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// How often Watch looks at Redis.
const (
	watchEvery = time.Second            // if no operation contradicts what is known
	watchPause = 100 * time.Millisecond // at most ten looks a second, whatever operations say
	watchLimit = 2 * time.Second        // one look
)

// Up reports whether Redis worked when Watch last looked. Before the first
// look it says true.
func (r *Redis) Up() bool { return !r.down.Load() }

// Watch keeps Up true to life until ctx ends: it pings every
// second, and at once when an operation fails (or succeeds while Redis is
// thought to be down). Each transition is one line in the log. Only one Watch
// may run.
func (r *Redis) Watch(ctx context.Context, log *slog.Logger) {
	for {
		r.look(ctx, log)
		if !sleep(ctx, watchPause, nil) || !sleep(ctx, watchEvery-watchPause, r.wake) {
			return
		}
	}
}

func (r *Redis) look(ctx context.Context, log *slog.Logger) {
	limited, cancel := context.WithTimeout(ctx, watchLimit)
	defer cancel()
	err := r.Ping(limited)
	if ctx.Err() != nil {
		return // we are ending, Redis is not
	}
	if was := r.down.Swap(err != nil); was != (err != nil) {
		if err != nil {
			log.Error("redis is down", "error", err)
		} else {
			log.Info("redis is up again")
		}
	}
}

// sleep waits for d or wake. It reports false when ctx ended.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
		return false
	}
	return true
}

// observe wakes Watch if the end of an operation contradicts Up.
func (r *Redis) observe(err error) {
	if unavailable(err) != r.down.Load() {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// watchHook lets Watch learn from every operation.
type watchHook struct{ r *Redis }

func (h watchHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return next(ctx, network, addr)
	}
}

func (h watchHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		h.r.observe(err)
		return err
	}
}

func (h watchHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		h.r.observe(err)
		return err
	}
}
