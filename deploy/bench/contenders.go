package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// contender is a running server on loopback.
type contender struct {
	name    string
	address string
	cmd     *exec.Cmd
	before  int64 // resident bytes before any load
	results []result
}

// host returns what the load writes as Host.
func (c *contender) host() string {
	_, port, _ := net.SplitHostPort(c.address)
	return "localhost:" + port
}

// start runs a program on a free port and waits until it listens there.
func start(ctx context.Context, o options, name string, command func(address string) []string) (*contender, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &contender{name: name, address: l.Addr().String()}
	l.Close()
	log, err := os.Create(filepath.Join(o.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	args := command(c.address)
	c.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = o.dir, log, log
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(syscall.SIGTERM) }
	c.cmd.WaitDelay = 5 * time.Second
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	for range 100 {
		if conn, err := net.Dial("tcp", c.address); err == nil {
			conn.Close()
			c.before = resident(c.cmd.Process.Pid)
			return c, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.stop()
	said, _ := os.ReadFile(log.Name())
	return nil, fmt.Errorf("%s does not listen on %s: %s", name, c.address, said)
}

func (c *contender) stop() {
	_ = c.cmd.Cancel()
	kill := time.AfterFunc(5*time.Second, func() {
		fmt.Fprintf(os.Stderr, "bench: %s does not end, it is killed\n", c.name)
		_ = c.cmd.Process.Kill()
	})
	defer kill.Stop()
	_ = c.cmd.Wait()
}

func stopAll(contenders []*contender) {
	for _, c := range contenders {
		c.stop()
	}
}

// proxies starts everything that can stand in front of upstream; the bare
// ReverseProxy, which the others are compared with, comes first.
func proxies(ctx context.Context, o options, upstream string) []*contender {
	self := func(what string) func(string) []string {
		return func(address string) []string { return []string{os.Args[0], "server", what, address, upstream} }
	}
	commands := []struct {
		name    string
		command func(address string) []string
	}{
		{"reverseproxy", self("reverseproxy")},
		{"jumpgate", func(address string) []string {
			_, port, _ := net.SplitHostPort(address)
			return []string{o.jumpgate, "serve", "--listen", address, "--admin-listen", "off", "--wwwroot", "http://localhost:" + port,
				"--upstream", "http://" + upstream, "--peer", peer, "--state-dir", filepath.Join(o.dir, "state"), "--log-level", "warn"}
		}},
		{"proxy package", self("proxy")},
		{"nginx", config(o, "nginx", nginx, upstream, "-p", o.dir, "-e", "nginx.log", "-c")},
		{"haproxy", config(o, "haproxy", haproxy, upstream, "-f")},
		{"caddy", config(o, "caddy", caddy, upstream, "run", "--adapter", "caddyfile", "--config")},
	}
	var started []*contender
	for _, candidate := range commands {
		if candidate.name == "jumpgate" && o.jumpgate == "" || candidate.name == "proxy package" && o.jumpgate != "" && !o.proxyOnly {
			continue
		}
		c, err := start(ctx, o, candidate.name, candidate.command)
		switch {
		case errors.Is(err, exec.ErrNotFound):
			fmt.Printf("%s is not installed\n", candidate.name)
		case err != nil:
			fmt.Fprintf(os.Stderr, "bench: %s is left out: %v\n", candidate.name, err)
		default:
			started = append(started, c)
		}
	}
	return started
}

// peer is on the gateway's allowlist. No jump is followed, so that nobody has
// to answer there.
const (
	peerWwwroot = "https://forum.example"
	peer        = peerWwwroot + "=SHA256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

// config returns a command with a configuration file made of a template.
func config(o options, program, template, upstream string, args ...string) func(string) []string {
	return func(address string) []string {
		file := filepath.Join(o.dir, program+".conf")
		_, port, _ := net.SplitHostPort(address)
		text := strings.NewReplacer("ADDRESS", address, "PORT", port, "UPSTREAM", upstream, "CPUS", fmt.Sprint(runtime.NumCPU())).Replace(template)
		_ = os.WriteFile(file, []byte(text), 0o600)
		return append(append([]string{program}, args...), file)
	}
}

const nginx = `daemon off;
pid nginx.pid;
worker_processes CPUS;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  keepalive_requests 1000000;
  upstream moodle { server UPSTREAM; keepalive 256; keepalive_requests 1000000; }
  server {
    listen ADDRESS;
    location / {
      proxy_pass http://moodle;
      proxy_http_version 1.1;
      proxy_max_temp_file_size 0;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-Id $request_id;
    }
  }
}
`

const haproxy = `global
  nbthread CPUS
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend front
  bind ADDRESS
  unique-id-format %[uuid]
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Host %[req.hdr(Host)]
  http-request set-header X-Forwarded-Proto http
  default_backend moodle
backend moodle
  http-reuse always
  server moodle UPSTREAM
`

const caddy = `{
  admin off
}
http://:PORT {
  bind 127.0.0.1
  reverse_proxy UPSTREAM
}
`
