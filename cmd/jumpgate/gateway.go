package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gorilla/sessions"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/proxy"
	"jumpgate/gateway/store"
	"jumpgate/idp"
	"jumpgate/sp"
	"jumpgate/web"
)

// instance is a gateway put together from a configuration: what serve and
// demo run.
type instance struct {
	log     *slog.Logger
	redis   *store.Redis
	metrics *web.Metrics
	trail   *audit.Trail
	moodles []moodleRedis // Moodle's own ones

	mu        sync.Mutex
	sites     map[gateway.Wwwroot]*standing
	strangers *strangers
	children  *mnet.Children // sessions at peers that are to end
	learning  *sp.Learning
	pictures  *sp.Learning // what of landings are pictures, which may be slow to come

	ctx        context.Context // of what runs in the background, until stop
	stop       context.CancelFunc
	background sync.WaitGroup
	keptAlive  context.CancelFunc // ends what keepAlive began; nil before

	handler *web.Handler
	proxies []*proxy.Proxy
}

// newInstance opens what a gateway needs and never changes while it runs.
// Close ends it.
func newInstance(ctx context.Context, c *config.Config, log *slog.Logger) (*instance, error) {
	opened, err := store.Open(redisOptions(c.Redis))
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	g := &instance{log: log, redis: opened, sites: map[gateway.Wwwroot]*standing{}, strangers: newStrangers()}
	g.metrics = web.NewMetrics(opened.Up)
	if g.trail, err = openTrail(c.Audit, trailToRedis(c, opened), log); err != nil {
		opened.Close()
		return nil, err
	}
	g.metrics.WatchTrail(g.trail)
	g.children = mnet.NewChildren(web.ObserveLogouts(log, g.metrics, g.trail), mnet.KillPauses)
	g.learning, g.pictures = sp.NewLearning(), sp.NewLearning()
	g.ctx, g.stop = context.WithCancel(ctx)
	g.background.Go(func() { opened.Watch(g.ctx, log) })
	g.background.Go(func() { pruneTrail(g.ctx, c.Audit, g.trail, log) })
	if c.Redis.Embedded {
		log.Warn("redis is embedded: logins under way are lost when this process ends, and no second gateway can share them")
	}
	if err := g.load(c); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// farewellTime is how long peers may take, when the process ends, to end the
// sessions of learners who have logged out.
const farewellTime = 10 * time.Second

// close ends what newInstance opened.
func (g *instance) close() {
	limited, cancel := context.WithTimeout(context.Background(), farewellTime)
	defer cancel()
	g.children.Close(limited)
	g.learning.Close()
	g.pictures.Close()
	g.stop()
	g.background.Wait()
	for _, p := range g.proxies {
		p.CloseIdle()
	}
	for _, m := range g.moodles {
		m.client.Close()
	}
	if err := g.trail.Close(); err != nil {
		g.log.Error("the audit trail could not be closed", "error", err)
	}
	g.redis.Close()
}

// load makes the handler of a configuration, and leaves the old one alone if
// that fails.
func (g *instance) load(c *config.Config) error {
	var sites []*web.Site
	var proxies []*proxy.Proxy
	for _, s := range c.Sites {
		site, err := g.site(c, s)
		if err != nil {
			return fmt.Errorf("site %s: %w", s.Wwwroot, err)
		}
		sites = append(sites, site)
		site.Trail = g.trail
		proxies = append(proxies, site.Proxy)
	}
	for _, p := range g.proxies {
		p.CloseIdle()
	}
	g.leave(c.Sites)
	g.keepAlive(sites)
	g.handler, g.proxies = web.NewHandler(sites, c.TrustedProxies, g.log, g.metrics), proxies
	return nil
}

// site puts together what answers at a site's public address.
func (g *instance) site(c *config.Config, s *config.Site) (*web.Site, error) {
	trust := proxy.Trust(c.TrustedProxies)
	dir := siteDir(c, s)
	if err := os.MkdirAll(filepath.Join(dir, "peers"), 0o700); err != nil {
		return nil, withHint(err, "make the state directory writable, or name another one (state_dir, --state-dir)")
	}
	state := g.redis.Site(s.Wwwroot)
	known, err := g.standing(c, s, dir, state)
	if err != nil {
		return nil, err
	}
	keys := known.Keyring
	if s.Issuer == config.IssuerMoodle {
		return g.guarded(c, s, trust, state, keys)
	}
	asked := moodleWeb(s, state, keys)
	source, touch, err := g.source(c, s, asked)
	if err != nil {
		return nil, err
	}
	behind, err := g.behind(s, trust)
	if err != nil {
		return nil, err
	}
	inner := moodle.NewBehind(moodle.BehindOptions{Upstream: s.Upstream, Site: s.Wwwroot})
	caller := newCaller(known.client, state, dir, g.log)
	caller.Held, caller.Taken, caller.Pins.Changed = g.held(s, state), g.taken(state), g.keyChanged(s)
	visits := g.visits(s, state, keys, asked, caller)
	vouching, homeOf := vouched(s, source, visits)
	provider := idp.New(idp.Options{
		Site: s.Wwwroot, Aliases: s.Aliases, Peers: s.Peers, Roam: s.Roam, Rates: rates(c.Limits), Source: vouching, HomeOf: homeOf, OpenID: openID(s), Store: state,
		Browsers: state.Sessions(sessions.Options{
			Path: "/", MaxAge: int(store.JumpLife / time.Second),
			HttpOnly: true, Secure: s.Wwwroot.Scheme() == "https", SameSite: http.SameSiteLaxMode,
		}, store.Limits{
			PerAddress: c.Limits.PendingJumpsPerAddress, PerSite: c.Limits.PendingJumpsPerSite, Jumps: c.Limits.JumpsPerAddress,
		}, trust.Client),
		Cookie: s.Identity.Cookie, SessionTimeout: s.Identity.SessionTimeout, Client: trust.Client,
		Secrets: secrets(keys), Children: g.children, Call: caller.Call, Logout: homeLogout(s, state, asked), Touch: touch,
		Behind: inner, Redeemed: web.ObserveRedemptions(s.Wwwroot, g.trail),
		Unsigned: s.Unsigned, Links: links(s, caller), Confirmations: func() [][32]byte { return keys.Secrets("confirmation") },
	})
	site := &web.Site{
		Wwwroot: s.Wwwroot,
		Aliases: s.Aliases,
		Peers:   s.Peers,
		Proxy:   behind,
		Homes:   &sp.Homes{Site: s.Wwwroot, Aliases: s.Aliases, Peers: s.Peers, Keys: func() [][32]byte { return keys.Secrets("remembered home") }, Now: time.Now},

		Landings: landings(c, s, state, keys, trust, source),
	}
	if site.Landings.App == nil { // else nobody has an account here with whom they could jump
		site.IDP = provider
	}
	site.Provider = openIDProvider(s, state, keys)
	site.Landings.Logins = g.logins(s, state, asked, caller, visits, site.Provider)
	if site.Landings.App != nil {
		site.Landings.App.Visits = visits
	}
	site.Landings.Learns = g.learns(s)
	site.Bounces = bounces(s, site.Homes)
	if s.MNet.Off {
		return site, nil
	}
	site.Visits = visits
	g.fetchCertificates(s, known, caller)
	site.PublicKey = mnet.PublicKey(keys.Current)
	server := &mnet.Server{
		Site: s.Wwwroot, Keys: keys.Keys, Refresh: caller.Refresh, Methods: methods(provider, visits), Replays: state,
		Window: s.MNet.TimestampWindow, Addr: trust.Client, Budget: known.budget, Keyswapped: g.keyswapped(c, s, caller, state),
		Peer: func(ctx context.Context, wwwroot string) (*gateway.Peer, *gateway.Certificate, error) {
			peer := s.Peers.Caller(wwwroot, time.Now())
			if peer == nil {
				return nil, nil, nil
			}
			cert, err := caller.Pins.Certificate(ctx, peer)
			return peer, cert, err
		},
		Pass: func(ctx context.Context, c *mnet.Call, message []byte) ([]byte, error) {
			return inner.PassCall(ctx, keys.Current().Certificate(), c.Addr, message, mnet.MaxPassed)
		},
		Observe: web.ObserveCalls(s.Wwwroot, g.log, g.metrics, g.trail),
	}
	if site.Landings.App != nil { // which has never heard of MNet
		server.Pass = nil
	}
	site.RPC = server
	return site, nil
}

// methods returns what peers may call.
func methods(provider *idp.Provider, visits *sp.Visits) []mnet.Method {
	if visits == nil {
		return provider.Methods()
	}
	return append(provider.Methods(), visits.Methods()...)
}

// behind returns the proxy to a site's Moodle.
func (g *instance) behind(s *config.Site, trust proxy.Trust) (*proxy.Proxy, error) {
	return proxy.New(proxy.Options{
		Upstream:  s.Upstream,
		Site:      s.Wwwroot,
		Trust:     trust,
		RequestID: web.RequestID,
		ErrorPage: web.UpstreamFailed(s.Wwwroot, g.log, g.metrics),
		Last: web.Outward{
			Site: s.Wwwroot, Redirects: s.Decider(), Enforce: s.Redirects.Enforce,
			Trust: trust, Log: g.log, Metrics: g.metrics, Trail: g.trail,
		}.Inspect(),
		ResponseHeaderTimeout: s.UpstreamTimeout,
	})
}
