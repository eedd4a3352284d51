package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodletest"
	"jumpgate/gateway/proxy"
)

// role is what a side of the federation is there for.
type role struct {
	landing string // empty for the home
	title   string
	about   string
	port    int
}

// roles are the service providers, the one with MNet first and the application that
// is no Moodle last.
func (c demoCommand) roles() []role {
	return []role{
		{config.LandingMoodle, "Forum University", "the forum, a Moodle with MNet", c.SPPort},
		{config.LandingHeader, "Forum Academy", "a forum whose Moodle has no MNet", c.HeaderPort},
		{config.LandingOAuth2, "Forum Institute", "a forum without MNet that logs in by OpenID Connect", c.OAuth2Port},
		{config.LandingJWT, "Reading Room", "an application that is no Moodle", c.AppPort},
	}
}

// party is one side of the federation: a stand-in Moodle, or application, and the
// gateway's listener in front of it.
type party struct {
	role
	wwwroot gateway.Wwwroot
	key     *mnet.Key
	front   net.Listener // the public address
	behind  net.Listener // the stand-in's own
	site    *config.Site
}

// build starts everything. The home is called localhost and the others 127.0.0.1,
// so that they are two hosts to a browser.
func (d *demo) build(ctx context.Context, c demoCommand) error {
	home, err := d.party(ctx, c, "localhost", role{title: "Home College", port: c.IDPPort})
	if err != nil {
		return err
	}
	all := []*party{home}
	for _, role := range c.roles() {
		p, err := d.party(ctx, c, "127.0.0.1", role)
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	if err := introduce(home, all[1:]...); err != nil {
		return err
	}
	conf := &config.Config{Redis: &config.Redis{Embedded: true}, StateDir: c.StateDir, Audit: config.DefaultAudit(c.StateDir)}
	for _, p := range all {
		conf.Sites = append(conf.Sites, p.site)
		if p.site.Identity.Source != "" {
			p.site.Identity.Redis = conf.Redis
		}
	}
	if d.gateway, err = newInstance(ctx, conf, d.log); err != nil {
		return err
	}
	d.gateway.configured(conf, "started", nil)

	password := strings.ToLower(rand.Text()[:10])
	users := []moodletest.User{moodletest.SampleUser(password), moodletest.SampleOther(password)}
	d.scene = scene{IDP: home.wwwroot.String(), Username: users[0].Username, Password: password, Trail: conf.Audit.Dir}
	var mails []moodletest.Mail
	var journey moodletest.Journey
	now := time.Now()
	for _, p := range all[1:] {
		link := home.linkTo(p, moodletest.SampleDeepLink)
		d.scene.SPs = append(d.scene.SPs, provider{p.wwwroot.String(), p.landing, link, p.about})
		mails = append(mails, moodletest.SampleMail(p.title, link, now))
		stand, err := d.standIn(p, &journey, now)
		if err != nil {
			return err
		}
		d.serve(p.behind, stand)
		d.serve(p.front, journey.Watch("the forum", d.gateway.handler))
	}
	d.scene.SP, d.scene.DeepLink = d.scene.SPs[0].Wwwroot, d.scene.SPs[0].DeepLink
	homeMoodle, err := moodletest.NewHome(moodletest.HomeOptions{
		Wwwroot: home.wwwroot, Title: home.title, CookieSuffix: home.suffix(), Users: users, Sessions: d.sessions(home), Mails: mails,
	})
	if err != nil {
		return err
	}
	d.serve(home.behind, homeMoodle)
	d.serve(home.front, journey.Watch("home", d.gateway.handler))
	return nil
}

// standIn returns what is behind the gateway at a service provider.
func (d *demo) standIn(p *party, journey *moodletest.Journey, now time.Time) (http.Handler, error) {
	if p.landing == config.LandingJWT {
		app := moodletest.NewApplication(p.wwwroot, time.Now)
		app.Redirects = journey.Redirects
		return app, nil
	}
	o := moodletest.ForumOptions{
		Wwwroot: p.wwwroot, Title: p.title, CookieSuffix: p.suffix(), Sessions: d.sessions(p),
		Discussions: moodletest.SampleDiscussions(now), Redirects: journey.Redirects,
	}
	if p.landing == config.LandingMoodle {
		o.Key, o.Homes = p.key, p.site.Peers.Peers()
	}
	o.Shibboleth = p.landing == config.LandingHeader
	if l := p.site.Landing; p.landing == config.LandingOAuth2 {
		o.Token = string(l.Token)
		o.OAuth2 = &moodletest.OAuth2Service{ID: l.IssuerID, BaseURL: p.wwwroot.String(), ClientID: l.ClientID, ClientSecret: string(l.ClientSecret)}
	}
	return moodletest.NewForum(o)
}

// party takes the two addresses of a side, makes its key and configures it.
func (d *demo) party(ctx context.Context, c demoCommand, host string, as role) (*party, error) {
	front, err := proxy.Listen(ctx, "127.0.0.1:"+strconv.Itoa(as.port), 0)
	if err != nil {
		return nil, withHint(err, "choose other ports with --idp-port and --sp-port (and --header-port, --oauth2-port, --app-port); 0 takes a free one")
	}
	behind, err := proxy.Listen(ctx, "127.0.0.1:0", 0)
	if err != nil {
		return nil, errors.Join(err, front.Close())
	}
	p := &party{role: as, front: front, behind: behind}
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
	p.site = &config.Site{
		Wwwroot: p.wwwroot, Upstream: &url.URL{Scheme: "http", Host: behind.Addr().String()},
		UpstreamTimeout: time.Minute, MNet: config.MNet{TimestampWindow: config.DefaultTimestampWindow, RotateKey: true},
	}
	return p, p.configure()
}

// configure says who is logged in at a side, and how learners land there. Browsers
// do not tell cookies apart by ports, so each Moodle has a name for its own.
func (p *party) configure() (err error) {
	name := cmp.Or(p.landing, "home")
	p.site.Identity = config.Identity{
		Source: config.MoodleRedis, Cookie: config.DefaultCookie + name, Prefix: "mdl_" + name + "_",
		SessionTimeout: config.DefaultSessionTimeout, MnetLocalhostID: 1,
	}
	if p.landing == "" {
		return nil
	}
	p.site.Bounce, p.site.Landing.By = config.BounceAuto, p.landing
	if p.landing == config.LandingMoodle {
		return nil
	}
	if p.landing == config.LandingJWT {
		p.site.Identity = config.Identity{}
		p.site.Landing.Algorithm = config.AlgorithmEdDSA
		p.site.Landing.SessionIdle, p.site.Landing.SessionLife = config.DefaultSessionIdle, config.DefaultSessionLife
	}
	if p.landing == config.LandingOAuth2 {
		p.site.Landing.IssuerID, p.site.Landing.ClientID = 1, config.DefaultClientID
		p.site.Landing.ClientSecret, p.site.Landing.Token = config.Secret(rand.Text()), config.Secret(rand.Text())
	}
	p.site.Landing.Names, err = gateway.ParseAccountNames(gateway.DefaultNames)
	return err
}

// suffix is the $CFG->sessioncookie of the stand-in.
func (p *party) suffix() string {
	return strings.TrimPrefix(p.site.Identity.Cookie, config.DefaultCookie)
}

// sessions is where the stand-in keeps its own.
func (d *demo) sessions(p *party) moodletest.Sessions {
	return moodletest.Sessions{Redis: d.gateway.redis.Client(), Prefix: p.site.Identity.Prefix}
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
			Wwwroot: of.wwwroot, Name: of.title, HostID: id, Application: gateway.Moodle, Certificate: of.key.Certificate(),
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
