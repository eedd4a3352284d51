package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
	gate, err := start(ctx, o, "jumpgate", func(own string) []string {
		_, port, _ := net.SplitHostPort(own)
		return []string{o.jumpgate, "serve", "--listen", own, "--admin-listen", "off", "--wwwroot", "http://localhost:" + port,
			"--upstream", "http://" + bare.address, // no page is asked for
			"--peer", peer, "--state-dir", filepath.Join(o.dir, "jumps"),
			"--redis", "redis://" + address, "--moodle-redis", "redis://" + address, "--moodle-prefix", sessionPrefix}
	})
	if err != nil {
		return err
	}
	defer gate.stop()
	return compare(ctx, o, "jumps", 0, o.requests, []*contender{bare, gate}, func(c *contender) string {
		return "GET /auth/mnet/jump.php?hostwwwroot=" + peerWwwroot + "&wantsurl=%2Fmod%2Fforum%2Fdiscuss.php%3Fd%3D12%26parent%3D34%23p34 HTTP/1.1\r\nHost: " +
			c.host() + browser + "\r\n\r\n"
	})
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
