package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"jumpgate/gateway/config"
	"jumpgate/gateway/proxy"
	"jumpgate/web"
)

type serveCommand struct {
	Config       string `short:"c" placeholder:"FILE" help:"Configuration file. Without one, the flags below are enough for one site."`
	config.Flags `embed:""`
}

// Run serves until SIGINT or SIGTERM and then lets requests end. SIGHUP reads
// the configuration file again.
func (c serveCommand) Run(t *terminal) error {
	loaded, err := c.load()
	if err != nil {
		return err
	}
	log := newLog(t.stderr, loaded.Log)
	warn(log, loaded)
	server := &server{log: log, load: c.load}
	return server.run(t.ctx, loaded)
}

func (c serveCommand) load() (*config.Config, error) {
	if c.Config == "" {
		return config.FromFlags(c.Flags)
	}
	if !reflect.ValueOf(c.Flags).IsZero() {
		return nil, &usageError{"flags and a configuration file do not go together", "put everything into the file, or leave out --config"}
	}
	return config.Load(c.Config)
}

func warn(log *slog.Logger, c *config.Config) {
	for _, warning := range c.Warnings {
		if at := warning.Position.String(); at != "" {
			log.Warn(warning.Message, "at", at)
		} else {
			log.Warn(warning.Message)
		}
	}
}

// drainTime is how long requests may take to end after SIGTERM.
const drainTime = 30 * time.Second

// server runs an instance on its listeners.
type server struct {
	log  *slog.Logger
	load func() (*config.Config, error)

	watch    peersWatch
	relays   *relays
	current  atomic.Pointer[config.Config]
	handler  atomic.Pointer[web.Handler]
	draining atomic.Bool
}

func (s *server) run(ctx context.Context, c *config.Config) error {
	s.watch.take(c)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)

	listener, err := proxy.Listen(ctx, c.Listen, 0)
	if err != nil {
		return withHint(err, "choose a free address of this machine with listen (--listen)")
	}
	defer listener.Close()
	var admin net.Listener
	if c.Admin != "" {
		if admin, err = proxy.Listen(ctx, c.Admin, 0); err != nil {
			return withHint(err, "choose a free address of this machine with admin.listen (--admin-listen), or off")
		}
		defer admin.Close()
	}
	g, err := newInstance(ctx, c, s.log)
	if err != nil {
		return err
	}
	defer g.close()
	if s.relays, err = listenMail(ctx, c, g); err != nil {
		return err
	}
	g.configured(c, "started", nil)
	s.current.Store(c)
	s.handler.Store(g.handler)

	servers := []*http.Server{proxy.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handler.Load().ServeHTTP(w, r)
	}), s.log)}
	listeners := []net.Listener{listener}
	if c.TLS != nil {
		servers[0].TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.certificate}
	}
	if admin != nil {
		servers = append(servers, proxy.NewServer(web.NewAdmin(g.metrics, func() string { return s.notReady(g) }), s.log))
		listeners = append(listeners, admin)
		s.log.Info("admin", "address", admin.Addr().String())
	}
	for _, site := range c.Sites {
		s.log.Info("serving", "site", site.Wwwroot.String(), "address", listener.Addr().String(), "upstream", site.Upstream.String(),
			"peers", len(site.Peers.Peers()), "issuer", site.Issuer, "identity", site.Identity.Source)
	}
	return s.serve(ctx, servers, listeners, hangups, g)
}

// serve runs the servers until ctx ends or one fails, and then drains them.
func (s *server) serve(ctx context.Context, servers []*http.Server, listeners []net.Listener, hangups <-chan os.Signal, g *instance) error {
	failed := make(chan error, len(servers)+len(s.relays.running))
	s.relays.serve(failed)
	var running sync.WaitGroup
	for i, server := range servers {
		running.Go(func() {
			var err error
			if server.TLSConfig != nil {
				err = server.ServeTLS(listeners[i], "", "")
			} else {
				err = server.Serve(listeners[i])
			}
			if !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	looks := time.NewTimer(watchInterval)
	defer looks.Stop()
	var err error
	for wait := true; wait; {
		select {
		case <-hangups:
			s.watch.take(s.current.Load())
			s.reload(g)
		case <-looks.C:
			changed, next := s.watch.look(s.current.Load())
			if changed {
				s.reload(g)
			}
			looks.Reset(next)
		case err = <-failed:
			wait = false
		case <-ctx.Done():
			wait = false
		}
	}
	s.draining.Store(true)
	s.log.Info("stopping: requests have time to end", "limit", drainTime)
	limited, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	running.Go(func() { s.relays.shutdown(limited) })
	for _, server := range servers { // the admin listener last: it tells that we drain
		if shutdown := server.Shutdown(limited); shutdown != nil {
			s.log.Warn("requests were cut off", "error", shutdown)
			server.Close()
		}
	}
	running.Wait()
	return err
}

// reload takes up a changed configuration. A file that is wrong changes
// nothing.
func (s *server) reload(g *instance) {
	c, err := s.load()
	if err == nil {
		err = s.restartOnly(c)
	}
	if err == nil {
		err = g.load(c)
	}
	if err != nil {
		s.log.Error("the configuration was not reloaded: the old one stays in force", "error", err)
		g.configured(s.current.Load(), "not reloaded", err)
		return
	}
	g.configured(c, "reloaded", nil)
	s.current.Store(c)
	s.handler.Store(g.handler)
	s.relays.use(c)
	warn(s.log, c) // of what is in force by now
	s.log.Info("the configuration was reloaded", "sites", len(c.Sites))
}

// restartOnly refuses changes that a running process cannot take up.
func (s *server) restartOnly(c *config.Config) error {
	old := s.current.Load()
	for _, field := range []struct {
		name    string
		changed bool
	}{
		{"listen", c.Listen != old.Listen},
		{"tls", (c.TLS == nil) != (old.TLS == nil)},
		{"admin", c.Admin != old.Admin},
		{"redis", !sameRedis(c.Redis, old.Redis)},
		{"state_dir", c.StateDir != old.StateDir},
		{"audit", c.Audit != old.Audit},
		{"log", c.Log != old.Log},
		{"mail.relay.listen", !sameRelays(c, old)},
	} {
		if field.changed {
			return fmt.Errorf("%s has changed, which takes a restart", field.name)
		}
	}
	return nil
}

// certificate returns the TLS certificate of the configuration in force.
func (s *server) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := s.current.Load(); c.TLS != nil {
		return &c.TLS.Certificate, nil
	}
	return nil, errors.New("no certificate is configured")
}

// notReady says what keeps the gateway from doing its work, or nothing.
func (s *server) notReady(g *instance) string {
	switch {
	case s.draining.Load():
		return "stopping"
	case !g.redis.Up():
		return "redis is down"
	}
	if site, other := g.otherKey(); other {
		return "not the key of the other gateways of " + site.String()
	}
	return ""
}

// newLog writes to the process log, which is standard error.
func newLog(w interface{ Write([]byte) (int, error) }, c config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level}
	if c.Format == config.FormatJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
