package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/link"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
	"jumpgate/idp"
)

// stateName is the directory of a site below the state directory: its
// address, made fit for a file name, and enough of a hash to be unique.
func stateName(w gateway.Wwwroot) string {
	name := strings.NewReplacer("://", "-", "/", "-", ":", "-", "[", "", "]", "").Replace(w.String())
	sum := sha256.Sum256([]byte(w.String()))
	return name + "-" + hex.EncodeToString(sum[:4])
}

// siteDir returns the directory of a site below the state directory. That of an
// alias will do as long as the site has none of its own: a site that has moved
// keeps its key and the certificates of its peers.
func siteDir(c *config.Config, s *config.Site) string {
	own := filepath.Join(c.StateDir, stateName(s.Wwwroot))
	for _, name := range append([]gateway.Wwwroot{s.Wwwroot}, s.Aliases...) {
		dir := filepath.Join(c.StateDir, stateName(name))
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	return own
}

// secrets returns the keys that seal the ids of Moodle sessions.
func secrets(keys *mnet.Keyring) gateway.Secrets {
	return func() [][32]byte { return keys.Secrets("moodle session") }
}

// links returns what verifies the links that a site's peers have signed.
func links(s *config.Site, caller *mnet.Caller) *link.Verifier {
	return &link.Verifier{
		Site: s.Wwwroot, Aliases: s.Aliases, MaxLife: s.MaxLinkLife,
		Certificates: caller.Pins.Certificates, Refresh: caller.Refresh,
	}
}

// rates returns how often learners may jump.
func rates(l config.Limits) idp.Rates {
	return idp.Rates{User: l.JumpsPerUser, Address: l.JumpsPerAddress, Peer: l.JumpsPerPeer}
}

// openID returns the OpenID provider where the accounts of a site are, or nil.
func openID(s *config.Site) *idp.OpenID {
	p := s.Identity.OpenID
	if p == nil {
		return nil
	}
	return idp.NewOpenID(idp.OpenIDOptions{
		Issuer: p.Issuer, ClientID: p.ClientID, ClientSecret: string(p.ClientSecret), Scopes: p.Scopes,
		Callback: s.Wwwroot.String() + idp.CallbackPath,
		Claims:   idp.Claims(p.Claims), Usernames: p.Usernames, Session: p.Session,
	})
}

// moodleWeb returns what asks a site's Moodle over HTTP: whose a session is,
// if that is the identity source, and in any case to log somebody out.
func moodleWeb(s *config.Site, state *store.Site, keys *mnet.Keyring) *moodle.Web {
	id := s.Identity
	o := moodle.WebOptions{Upstream: s.Upstream, Site: s.Wwwroot, Cookie: id.Cookie}
	if id.Source == config.MoodleWeb {
		token := string(id.Token)
		o.Token = func() string { return token }
		o.MFA, o.Cache = id.MFA, state.Cache("identity")
		o.CacheKey = func() [32]byte { return keys.Current().Derive("identity cache") }
	}
	return moodle.NewWeb(o)
}

// homeLogout returns what ends a learner's session at home: that of Moodle, or
// the login that an OpenID provider has vouched for.
func homeLogout(s *config.Site, state *store.Site, asked *moodle.Web) func(context.Context, moodle.Browser, int64) error {
	if s.Identity.Source != config.OIDC {
		return asked.Logout
	}
	return func(ctx context.Context, b moodle.Browser, _ int64) error { return state.EndLogin(ctx, b.Session) }
}

// source returns what knows whose a Moodle session is, and what keeps sessions
// alive while learners are elsewhere, or nil if nothing is to.
func (g *instance) source(c *config.Config, s *config.Site, asked *moodle.Web) (source idp.Source, touch func(context.Context, []moodle.Owned) error, err error) {
	id := s.Identity
	switch id.Source {
	case config.MoodleWeb:
		return asked, nil, nil
	case config.OIDC: // Moodle is not asked
		return nil, nil, nil
	}
	client, err := g.moodleRedis(c, id.Redis)
	if err != nil {
		return nil, nil, err
	}
	sessions := moodle.NewRedisSessions(moodle.RedisOptions{
		Client: client, Prefix: id.Prefix, SessionTimeout: id.SessionTimeout, LocalHostID: id.MnetLocalhostID, MFA: id.MFA,
	})
	if id.TouchSessions {
		touch = sessions.Touch
	}
	return sessions, touch, nil
}

// moodleRedis is a connection to a Redis where Moodle keeps its sessions.
type moodleRedis struct {
	config *config.Redis
	client *store.Redis
}

// moodleRedis returns a client of the Redis where Moodle keeps its sessions:
// our own one if it is the same. Clients outlive a reload, since requests may
// still use them; there is one for each way to reach a Redis.
func (g *instance) moodleRedis(c *config.Config, r *config.Redis) (redis.Cmdable, error) {
	if r == c.Redis {
		return g.redis.Batched(), nil
	}
	for _, m := range g.moodles {
		if sameRedis(m.config, r) {
			return m.client.Batched(), nil
		}
	}
	opened, err := store.Open(redisOptions(r))
	if err != nil {
		return nil, fmt.Errorf("moodle's redis: %w", err)
	}
	g.moodles = append(g.moodles, moodleRedis{r, opened})
	return opened.Batched(), nil
}

// sameRedis reports whether two configurations reach the same Redis in the
// same way. What was loaded from the files that they name may differ.
func sameRedis(a, b *config.Redis) bool {
	x, y := *a, *b
	if x.TLS != nil && y.TLS != nil {
		s, t := *x.TLS, *y.TLS
		s.Config, t.Config = nil, nil
		x.TLS, y.TLS = &s, &t
	}
	return reflect.DeepEqual(x, y)
}

// redisOptions translates a configured Redis.
func redisOptions(r *config.Redis) store.Options {
	if r.Embedded {
		return store.Options{Addr: store.Embedded}
	}
	o := store.Options{Addr: r.URL(), Username: r.Username, Password: string(r.Password), DB: r.Database}
	if o.Addr == "" {
		o.Addrs, o.MasterName, o.Cluster = r.Addresses, r.MasterName, r.Cluster
	}
	if r.TLS != nil {
		o.TLS = r.TLS.Config
	}
	return o
}
