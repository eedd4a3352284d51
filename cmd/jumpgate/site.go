package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
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

const keyHint = "the file holds certificate and private key, in PEM or as Moodle stores them, and only its owner and group may read it (chmod 600)"

// siteKey reads or makes the MNet key of a site.
func siteKey(s *config.Site, dir string, log *slog.Logger) (*mnet.Key, error) {
	if s.KeyFile != "" {
		key, err := mnet.LoadKey(s.KeyFile, s.Wwwroot)
		if err != nil {
			return nil, withHint(err, keyHint)
		}
		return key, nil
	}
	key, created, err := mnet.LoadOrCreateKey(filepath.Join(dir, "key.pem"), s.Wwwroot, time.Now())
	if err != nil {
		return nil, withHint(err, "the state directory must be writable, and the key readable by its owner alone")
	}
	if created {
		log.Info("made an MNet key", "site", s.Wwwroot.String(), "fingerprint", key.Certificate().Fingerprint().String())
	}
	if left := time.Until(key.Certificate().NotAfter); left < 28*24*time.Hour {
		log.Warn("the MNet key of the site expires soon", "site", s.Wwwroot.String(), "notafter", key.Certificate().NotAfter)
	}
	return key, nil
}

// secrets returns the keys that seal the ids of Moodle sessions.
func secrets(key *mnet.Key) idp.Secrets {
	sealing := key.Derive("moodle session")
	return func() [][32]byte { return [][32]byte{sealing} }
}

// moodleWeb returns what asks a site's Moodle over HTTP: whose a session is,
// if that is the identity source, and in any case to log somebody out.
func moodleWeb(s *config.Site, state *store.Site, key *mnet.Key) *moodle.Web {
	id := s.Identity
	o := moodle.WebOptions{Upstream: s.Upstream, Site: s.Wwwroot, Cookie: id.Cookie}
	if id.Source == config.MoodleWeb {
		token := string(id.Token)
		o.Token = func() string { return token }
		o.MFA, o.Cache, o.CacheKey = id.MFA, state.Cache("identity"), key.Derive("identity cache")
	}
	return moodle.NewWeb(o)
}

// source returns what knows whose a Moodle session is, and what keeps sessions
// alive while learners are elsewhere, or nil if nothing is to.
func (g *instance) source(c *config.Config, s *config.Site, asked *moodle.Web) (source idp.Source, touch func(context.Context, []moodle.Owned) error, err error) {
	id := s.Identity
	if id.Source == config.MoodleWeb {
		return asked, nil, nil
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

// peerClient returns what speaks to a site's peers.
func peerClient(s *config.Site, key *mnet.Key) *mnet.Client {
	return &mnet.Client{Key: key, Site: s.Wwwroot, HTTP: &http.Client{Timeout: time.Minute}}
}

// callPeer returns what calls methods of peers.
func callPeer(client *mnet.Client, pins *mnet.Pins) func(context.Context, *gateway.Peer, string, ...mnet.Value) (mnet.Value, error) {
	return func(ctx context.Context, peer *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error) {
		cert, err := pins.Certificate(ctx, peer)
		if err != nil {
			return nil, err
		}
		return client.Call(ctx, peer, cert, method, params...)
	}
}

// pins returns the certificates of a site's peers, and begins to fetch those
// that nobody has pinned yet.
func (g *instance) pins(s *config.Site, client *mnet.Client, dir string) *mnet.Pins {
	pins := &mnet.Pins{Dir: filepath.Join(dir, "peers"), Fetch: client.FetchCertificate, Log: g.log}
	g.background.Go(func() {
		for _, peer := range s.Peers.Peers() {
			if peer.Certificate != nil || g.ctx.Err() != nil {
				continue
			}
			ctx, cancel := context.WithTimeout(g.ctx, 15*time.Second)
			if _, err := pins.Certificate(ctx, peer); err != nil && g.ctx.Err() == nil {
				g.log.LogAttrs(ctx, slog.LevelWarn, "a peer has no certificate yet: its learners cannot land until it answers",
					slog.String("peer", peer.Wwwroot.String()), slog.Any("error", err))
			}
			cancel()
		}
	})
	return pins
}
