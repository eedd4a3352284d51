package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

const sessionPrefix = "mdl_bench_"

// jumps measures jumps of a logged-in browser against a bare handler with one
// Redis pipeline. Both use one Redis, which holds a Moodle's session.
func jumps(ctx context.Context, o options) error {
	address, stop, err := startRedis(ctx, o)
	if err != nil {
		return err
	}
	defer stop()
	if err := seed(ctx, address); err != nil {
		return err
	}
	bare, err := start(ctx, o, "pipeline", func(own string) []string {
		return []string{os.Args[0], "server", "pipeline", own, address}
	})
	if err != nil {
		return err
	}
	defer bare.stop()
	var written error
	gate, err := start(ctx, o, "jumpgate", func(own string) []string {
		file := filepath.Join(o.dir, "jumps.yaml")
		written = os.WriteFile(file, jumpsConfig(o, own, bare.address, address), 0o600)
		return []string{o.jumpgate, "serve", "-c", file}
	})
	if err := errors.Join(written, err); err != nil {
		return err
	}
	defer gate.stop()
	return compare(ctx, o, "jumps", 0, o.requests, []*contender{bare, gate}, func(c *contender) string {
		return "GET /auth/mnet/jump.php?hostwwwroot=" + peerWwwroot + "&wantsurl=%2Fmod%2Fforum%2Fdiscuss.php%3Fd%3D12%26parent%3D34%23p34 HTTP/1.1\r\nHost: " +
			c.host() + browser + "\r\n\r\n"
	})
}

// jumpsConfig returns the configuration of the gateway that is measured. One
// learner makes all the jumps, so the limits are counted and never reached.
func jumpsConfig(o options, own, upstream, redis string) []byte {
	_, port, _ := net.SplitHostPort(own)
	wwwroot, fingerprint, _ := strings.Cut(peer, "=")
	return fmt.Appendf(nil, `listen: %q
admin: {listen: "off"}
redis: redis://%s
state_dir: %q
limits: {jumps_per_user: 1000000/s, jumps_per_address: 1000000/s}
sites:
  - wwwroot: http://localhost:%s
    upstream: http://%s
    identity: {source: moodle-redis, prefix: %q, mfa: false}
    peers: [{wwwroot: %q, fingerprint: %q}]
`, own, redis, filepath.Join(o.dir, "jumps"), port, upstream, sessionPrefix, wwwroot, fingerprint)
}

// startRedis starts a redis-server, or miniredis inside this process.
func startRedis(ctx context.Context, o options) (address string, stop func(), err error) {
	c, err := start(ctx, o, "redis-server", func(address string) []string {
		_, port, _ := net.SplitHostPort(address)
		return []string{"redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", o.dir}
	})
	if err == nil {
		return c.address, c.stop, nil
	}
	if !errors.Is(err, exec.ErrNotFound) {
		return "", nil, err
	}
	fmt.Println("redis-server is not installed, miniredis takes its place")
	m, err := miniredis.Run()
	if err != nil {
		return "", nil, err
	}
	return m.Addr(), m.Close, nil
}

// seed stores a session recorded from a real Moodle, as if it had just been
// used.
func seed(ctx context.Context, address string) error {
	sessdata, err := os.ReadFile("gateway/moodle/testdata/sessions/learner-after-testsession.bin")
	if err != nil {
		return err
	}
	client := redis.NewClient(&redis.Options{Addr: address})
	defer client.Close()
	return client.HSet(ctx, sessionPrefix+"session_"+session, "userid", "i:3;", "state", `s:1:"0";`,
		"timemodified", fmt.Sprintf("i:%d;", time.Now().Unix()), "sessdata", sessdata).Err()
}
