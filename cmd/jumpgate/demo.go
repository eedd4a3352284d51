package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodletest"
	"jumpgate/gateway/proxy"
)

type demoCommand struct {
	IDPPort  int    `name:"idp-port" default:"8080" placeholder:"N" help:"Port of the home site (8080); 0 takes a free one."`
	SPPort   int    `name:"sp-port" default:"8090" placeholder:"N" help:"Port of the forum (8090); 0 takes a free one."`
	AppPort  int    `name:"app-port" default:"0" placeholder:"N" help:"Port of the application that is no Moodle; 0, the default, takes a free one."`
	StateDir string `placeholder:"DIR" help:"Where keys are kept. Without one they are gone at the end."`
	JSON     bool   `help:"Print one JSON object when ready."`
	Verbose  bool   `short:"v" help:"Show the gateway's log."`
}

// Help explains more than fits a line.
func (demoCommand) Help() string {
	return "A stand-in home Moodle, a stand-in forum Moodle and an application that is no Moodle, all behind a real gateway with an embedded Redis, on this machine alone. Runs until it is interrupted."
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
	Landing  string `json:"landing"` // moodle or jwt
	DeepLink string `json:"deep_link"`
}

// Run serves the federation until the terminal's context ends.
func (c demoCommand) Run(t *terminal) error {
	for flag, port := range map[string]int{"--idp-port": c.IDPPort, "--sp-port": c.SPPort, "--app-port": c.AppPort} {
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

// party is one side of the federation: a stand-in Moodle and the gateway's
// listener in front of it.
type party struct {
	wwwroot gateway.Wwwroot
	key     *mnet.Key
	front   net.Listener // the public address
	behind  net.Listener // the stand-in's own
	site    *config.Site
}

// build starts everything. The home is called localhost and the forum
// 127.0.0.1, so that they are two hosts to a browser.
func (d *demo) build(ctx context.Context, c demoCommand) error {
	home, err := d.party(ctx, c, "localhost", c.IDPPort)
	if err != nil {
		return err
	}
	forum, err := d.party(ctx, c, "127.0.0.1", c.SPPort)
	if err != nil {
		return err
	}
	app, err := d.party(ctx, c, "127.0.0.1", c.AppPort)
	if err != nil {
		return err
	}
	if err := app.isApplication(); err != nil {
		return err
	}
	if err := introduce(home, forum, app); err != nil {
		return err
	}
	conf := &config.Config{
		Redis: &config.Redis{Embedded: true}, StateDir: c.StateDir, Audit: config.DefaultAudit(c.StateDir), Sites: []*config.Site{home.site, forum.site, app.site},
	}
	home.site.Identity.Redis, forum.site.Identity.Redis = conf.Redis, conf.Redis
	if d.gateway, err = newInstance(ctx, conf, d.log); err != nil {
		return err
	}
	d.gateway.configured(conf, "started", nil)

	password := strings.ToLower(rand.Text()[:10])
	account := moodletest.SampleUser(password)
	link := home.linkTo(forum, moodletest.SampleDeepLink)
	d.scene = scene{
		home.wwwroot.String(), forum.wwwroot.String(), link, account.Username, password, conf.Audit.Dir,
		[]provider{{forum.wwwroot.String(), config.LandingMoodle, link}, {app.wwwroot.String(), config.LandingJWT, home.linkTo(app, moodletest.NoteLink)}},
	}

	var journey moodletest.Journey
	now := time.Now()
	homeMoodle, err := moodletest.NewHome(moodletest.HomeOptions{
		Wwwroot: home.wwwroot, Title: "Home College", CookieSuffix: home.suffix(), Users: []moodletest.User{account},
		Sessions: moodletest.Sessions{Redis: d.gateway.redis.Client(), Prefix: home.site.Identity.Prefix},
		Mails:    []moodletest.Mail{moodletest.SampleMail(link, now)},
	})
	if err != nil {
		return err
	}
	forumMoodle, err := moodletest.NewForum(moodletest.ForumOptions{
		Wwwroot: forum.wwwroot, Title: "Forum University", CookieSuffix: forum.suffix(), Key: forum.key,
		Sessions: moodletest.Sessions{Redis: d.gateway.redis.Client(), Prefix: forum.site.Identity.Prefix},
		Homes:    forum.site.Peers.Peers(), Discussions: moodletest.SampleDiscussions(now), Redirects: journey.Redirects,
	})
	if err != nil {
		return err
	}
	d.serve(home.behind, homeMoodle)
	d.serve(forum.behind, forumMoodle)
	d.serve(app.behind, moodletest.NewApplication(app.wwwroot, time.Now))
	d.serve(app.front, d.gateway.handler)
	d.serve(home.front, journey.Watch("home", d.gateway.handler))
	d.serve(forum.front, journey.Watch("the forum", d.gateway.handler))
	return nil
}

// party takes the two addresses of a side and makes its key.
func (d *demo) party(ctx context.Context, c demoCommand, host string, port int) (*party, error) {
	front, err := proxy.Listen(ctx, "127.0.0.1:"+strconv.Itoa(port), 0)
	if err != nil {
		return nil, withHint(err, "choose other ports with --idp-port and --sp-port; 0 takes a free one")
	}
	behind, err := proxy.Listen(ctx, "127.0.0.1:0", 0)
	if err != nil {
		return nil, errors.Join(err, front.Close())
	}
	p := &party{front: front, behind: behind}
	d.closers = append(d.closers, front, behind)
	if p.wwwroot, err = gateway.ParseWwwroot(fmt.Sprintf("http://%s:%d", host, front.Addr().(*net.TCPAddr).Port)); err != nil {
		return nil, err
	}
	dir := filepath.Join(c.StateDir, stateName(p.wwwroot))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, withHint(err, "name a directory that may be written to with --state-dir")
	}
	if p.key, _, err = mnet.LoadOrCreateKey(filepath.Join(dir, "key.pem"), p.wwwroot, time.Now()); err != nil {
		return nil, err
	}
	name := strings.ReplaceAll(host, ".", "-")
	p.site = &config.Site{
		Wwwroot: p.wwwroot, Upstream: &url.URL{Scheme: "http", Host: behind.Addr().String()},
		UpstreamTimeout: time.Minute, MNet: config.MNet{TimestampWindow: config.DefaultTimestampWindow, RotateKey: true},
		Identity: config.Identity{
			Source: config.MoodleRedis, Cookie: config.DefaultCookie + name, Prefix: "mdl_" + name + "_",
			SessionTimeout: config.DefaultSessionTimeout, MnetLocalhostID: 1,
		},
	}
	return p, nil
}

// suffix is the $CFG->sessioncookie of the stand-in.
func (p *party) suffix() string {
	return strings.TrimPrefix(p.site.Identity.Cookie, config.DefaultCookie)
}

// isApplication makes of a party one that is no Moodle.
func (p *party) isApplication() error {
	names, err := gateway.ParseAccountNames(gateway.DefaultNames)
	p.site.Identity, p.site.Bounce = config.Identity{}, config.BounceChoose
	p.site.Landing = config.Landing{
		By: config.LandingJWT, Names: names, Algorithm: config.AlgorithmEdDSA,
		SessionIdle: config.DefaultSessionIdle, SessionLife: config.DefaultSessionLife,
	}
	return err
}

// linkTo returns the link at a home that leads to a page of a peer.
func (p *party) linkTo(peer *party, page string) string {
	target, _ := gateway.ParseTarget(p.site.Peers.Find(peer.wwwroot.String()), page)
	return gateway.JumpLink(p.wwwroot, gateway.Moodle, peer.wwwroot, target)
}

// introduce makes a home and the others peers, as their administrators would: the
// home vouches for its learners, and the others let them in.
func introduce(home *party, others ...*party) error {
	peer := func(of *party, id int, publish, subscribe string) *gateway.Peer {
		return &gateway.Peer{
			Wwwroot: of.wwwroot, HostID: id, Application: gateway.Moodle, Certificate: of.key.Certificate(),
			Publish: []string{publish}, Subscribe: []string{subscribe},
		}
	}
	var all []*gateway.Peer
	for i, other := range others {
		all = append(all, peer(other, 3+i, gateway.ServiceSSOIDP, gateway.ServiceSSOSP))
		var err error
		if other.site.Peers, err = gateway.NewAllowlist(peer(home, 3, gateway.ServiceSSOSP, gateway.ServiceSSOIDP)); err != nil {
			return err
		}
	}
	var err error
	home.site.Peers, err = gateway.NewAllowlist(all...)
	return err
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
	_, err := fmt.Fprintf(out, `
A federation is running on this machine.

  home site   %s   (behind Jumpgate)
  forum       %s
  application %s

Follow this link, as if it came in a mail from the forum:

  %s

or this one, to the application, which is no Moodle,

  %s

and log in as

  username    %s
  password    %s

Open the home site to see the mail itself. What is decided and done can be watched with

  jumpgate audit tail -f --dir %s

Press Ctrl-C to end.

`, d.scene.IDP, d.scene.SP, d.scene.SPs[1].Wwwroot, d.scene.DeepLink, d.scene.SPs[1].DeepLink, d.scene.Username, d.scene.Password, d.scene.Trail)
	return err
}
