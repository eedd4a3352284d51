package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/sp"
	"jumpgate/sp/mail"
	"jumpgate/web"
)

// relays are the mail servers of the sites that have one. They listen on the
// same addresses for as long as the process runs.
type relays struct {
	log     *slog.Logger
	metrics *web.Metrics
	learned func(*config.Site) *sp.Learned
	running map[gateway.Wwwroot]*relay
	done    sync.WaitGroup
}

type relay struct {
	*mail.Relay
	listener net.Listener
}

// listenMail opens the addresses of all relays.
func listenMail(ctx context.Context, c *config.Config, g *instance) (*relays, error) {
	all := &relays{log: g.log, metrics: g.metrics, learned: g.learned, running: map[gateway.Wwwroot]*relay{}}
	for _, site := range c.Sites {
		if site.Mail.Relay == nil {
			continue
		}
		var config net.ListenConfig
		l, err := config.Listen(ctx, "tcp", site.Mail.Relay.Listen)
		if err != nil {
			all.shutdown(ctx)
			return nil, withHint(fmt.Errorf("the relay of mails: %w", err), "choose a free address of this machine with mail.relay.listen")
		}
		all.running[site.Wwwroot] = &relay{mail.NewRelay(all.options(site)), l}
		g.log.Info("relaying mails", "site", site.Wwwroot.String(), "address", l.Addr().String(), "next", site.Mail.Relay.Next.URL())
	}
	return all, nil
}

func (all *relays) options(s *config.Site) mail.RelayOptions {
	r := s.Mail.Relay
	o := mail.RelayOptions{
		Site: s.Wwwroot, Aliases: s.Aliases, Homes: mailHomes(s),
		Clients:  r.Clients,
		Next:     mail.Server{Address: r.Next.Address, TLS: r.Next.TLS, Username: r.Next.Username, Password: string(r.Next.Password)},
		Hostname: hostname(),
		MaxSize:  r.MaxSize, MaxConnections: r.MaxConnections, Timeout: r.Timeout,
		Observe: web.ObserveMails(s.Wwwroot, all.log, all.metrics),
	}
	if learned := all.learned(s); learned != nil {
		o.Homes.Learned = learned
	}
	if r.Next.Trust != nil {
		o.Next.Config = r.Next.Trust.Config
	}
	return o
}

// hostname is what the relays call themselves.
func hostname() string {
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "localhost"
}

// serve runs the relays until shutdown.
func (all *relays) serve(failed chan<- error) {
	for _, r := range all.running {
		all.done.Go(func() {
			if err := r.Serve(r.listener); err != nil {
				failed <- err
			}
		})
	}
}

// use takes up a configuration.
func (all *relays) use(c *config.Config) {
	if all == nil { // a server that does not run
		return
	}
	for _, site := range c.Sites {
		if r := all.running[site.Wwwroot]; r != nil {
			r.Use(all.options(site))
		}
	}
}

// shutdown lets mails that are under way end, until ctx does.
func (all *relays) shutdown(ctx context.Context) {
	var ending sync.WaitGroup
	for _, r := range all.running {
		ending.Go(func() {
			r.Shutdown(ctx)
			r.listener.Close()
		})
	}
	ending.Wait()
	all.done.Wait()
}

// sameRelays reports whether two configurations have their relays at the same
// addresses.
func sameRelays(a, b *config.Config) bool {
	at := map[gateway.Wwwroot]string{}
	for _, site := range a.Sites {
		if site.Mail.Relay != nil {
			at[site.Wwwroot] = site.Mail.Relay.Listen
		}
	}
	n := 0
	for _, site := range b.Sites {
		if r := site.Mail.Relay; r != nil {
			if n++; at[site.Wwwroot] != r.Listen {
				return false
			}
		}
	}
	return n == len(at)
}
