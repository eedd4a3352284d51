package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"jumpgate/gateway/moodletest"
	"jumpgate/gateway/proxy"
)

type demoCommand struct {
	IDPPort    int    `name:"idp-port" default:"8080" placeholder:"N" help:"Port of the home site (8080); 0 takes a free one."`
	SPPort     int    `name:"sp-port" default:"8090" placeholder:"N" help:"Port of the forum (8090); 0 takes a free one."`
	HeaderPort int    `name:"header-port" default:"0" placeholder:"N" help:"Port of the forum whose Moodle has no MNet; 0, the default, takes a free one."`
	OAuth2Port int    `name:"oauth2-port" default:"0" placeholder:"N" help:"Port of the forum that logs in by OpenID Connect; 0, the default, takes a free one."`
	AppPort    int    `name:"app-port" default:"0" placeholder:"N" help:"Port of the application that is no Moodle; 0, the default, takes a free one."`
	StateDir   string `placeholder:"DIR" help:"Where keys are kept. Without one they are gone at the end."`
	JSON       bool   `help:"Print one JSON object when ready."`
	Verbose    bool   `short:"v" help:"Show the gateway's log."`
}

// Help explains more than fits a line.
func (demoCommand) Help() string {
	return "A stand-in home Moodle, stand-in forums with and without MNet and an application that is no Moodle, all behind a real gateway with an embedded Redis, on this machine alone. Runs until it is interrupted."
}

// scene is what the demo prints when it is ready.
type scene struct {
	IDP      string `json:"idp"`
	SP       string `json:"sp"`
	DeepLink string `json:"deep_link"`
	Username string `json:"username"`
	Password string `json:"password"`
	Trail    string `json:"audit_dir"`

	SPs []provider `json:"sps"` // the forum, which has MNet, first
}

// provider is a service provider of the scene.
type provider struct {
	Wwwroot  string `json:"wwwroot"`
	Landing  string `json:"landing"` // as the configuration has it
	DeepLink string `json:"deep_link"`

	about string
}

// Run serves the federation until the terminal's context ends.
func (c demoCommand) Run(t *terminal) error {
	for flag, port := range map[string]int{"--idp-port": c.IDPPort, "--sp-port": c.SPPort, "--header-port": c.HeaderPort, "--oauth2-port": c.OAuth2Port, "--app-port": c.AppPort} {
		if port < 0 || port > 65535 {
			return &usageError{fmt.Sprintf("%s: %d is not a port", flag, port), "give a number from 1 to 65535, or 0 for a free one"}
		}
	}
	if c.StateDir == "" {
		dir, err := os.MkdirTemp("", "jumpgate-demo-")
		if err != nil {
			return withHint(err, "name a directory that may be written to with --state-dir")
		}
		defer os.RemoveAll(dir)
		c.StateDir = dir
	}
	log := slog.New(slog.DiscardHandler)
	if c.Verbose {
		log = slog.New(slog.NewTextHandler(t.stderr, nil))
	}
	// A terminal that is closed ends the demo like Ctrl-C does.
	ctx, stop := signal.NotifyContext(t.ctx, syscall.SIGHUP)
	d := &demo{log: log, stop: stop}
	defer d.close()
	if err := d.build(ctx, c); err != nil {
		return err
	}
	if err := d.announce(t.stdout, c.JSON); err != nil {
		return err
	}
	<-ctx.Done()
	return d.failure()
}

// demo is a running federation.
type demo struct {
	log  *slog.Logger
	stop context.CancelFunc

	gateway *instance
	closers []io.Closer // listeners
	servers []*http.Server
	running sync.WaitGroup
	scene   scene

	mu  sync.Mutex
	err error // why a server ended before its time
}

// serve runs a server on a listener until close.
func (d *demo) serve(l net.Listener, h http.Handler) {
	server := proxy.NewServer(h, d.log)
	d.servers = append(d.servers, server)
	d.running.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			d.mu.Lock()
			d.err = err
			d.mu.Unlock()
			d.stop()
		}
	})
}

func (d *demo) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

func (d *demo) close() {
	d.stop()
	for _, server := range d.servers {
		server.Close()
	}
	for _, closer := range d.closers {
		closer.Close() // those that no server took over
	}
	d.running.Wait()
	if d.gateway != nil {
		d.gateway.close()
	}
}

// announce tells the reader what to do.
func (d *demo) announce(out io.Writer, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(d.scene)
	}
	var links strings.Builder
	for _, sp := range d.scene.SPs {
		fmt.Fprintf(&links, "  %s (landing: %s)\n  %s\n\n", sp.about, sp.Landing, sp.DeepLink)
	}
	_, err := fmt.Fprintf(out, `
A federation is running on this machine.

  home site   %s   (behind Jumpgate)

Follow one of these links, as if it came in a mail. Each leads to the same post, at

%sand log in as

  username    %s   (or %s)
  password    %s

Open the home site to see the mails themselves. The address of a page will do, too:
Jumpgate asks where you come from. Try

  %s%s

What is decided and done can be watched with

  jumpgate audit tail -f --dir %s

Press Ctrl-C to end.

`, d.scene.IDP, &links, d.scene.Username, moodletest.SampleOther("").Username, d.scene.Password,
		d.scene.SPs[1].Wwwroot, moodletest.SampleDeepLink, d.scene.Trail)
	return err
}
