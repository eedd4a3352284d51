package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
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

// keyOptions says where the keys of a site live. state is where its gateways
// agree on one, nil if it is alone.
func keyOptions(s *config.Site, dir string, state *store.Site, name string) mnet.KeyringOptions {
	o := mnet.KeyringOptions{Dir: dir, Site: s.Wwwroot, Import: s.KeyFile, Gateway: name}
	if state != nil {
		o.Registry = state
	}
	if s.MNet.KeySecret != "" {
		o.Secret = []byte(s.MNet.KeySecret)
	}
	return o
}

// openKeys reads or makes the MNet keys of a site.
func openKeys(o mnet.KeyringOptions, log *slog.Logger) (*mnet.Keyring, error) {
	keys, created, err := mnet.OpenKeyring(o)
	switch {
	case err != nil && o.Import != "":
		return nil, withHint(err, keyHint)
	case err != nil:
		return nil, withHint(err, "the state directory must be writable, and the keys in it readable by their owner alone")
	case created:
		log.Info("made an MNet key", "site", o.Site.String(), "fingerprint", keys.Current().Certificate().Fingerprint().String())
	}
	return keys, nil
}

// keyring returns the keyring of a site that was opened before, or nil.
func (g *instance) keyring(site gateway.Wwwroot) *mnet.Keyring {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.keyrings[site]
}

// otherKey names a site whose gateways have agreed on a key that is not here.
func (g *instance) otherKey() (gateway.Wwwroot, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for site, keys := range g.keyrings {
		if keys.Failure() != nil {
			return site, true
		}
	}
	return gateway.Wwwroot{}, false
}

const otherKeyHint = "give all gateways of the site the same state_dir, or the same mnet.key_secret_file; if this key is the right one, run: jumpgate key import --current"

// keys returns the keyring of a site, which outlives a reload, and sees to it
// that it keeps up with the other gateways of the site.
func (g *instance) keys(c *config.Config, s *config.Site, dir string, state *store.Site) (*mnet.Keyring, error) {
	if keys := g.keyring(s.Wwwroot); keys != nil {
		if s.KeyFile != "" {
			return keys, withHint(keys.Want(s.KeyFile), keyHint)
		}
		return keys, nil
	}
	if c.Redis.Embedded {
		state = nil
	}
	keys, err := openKeys(keyOptions(s, dir, state, rand.Text()), g.log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(g.ctx, 3*time.Second)
	defer cancel()
	err = keys.Settle(ctx)
	if _, other := errors.AsType[*mnet.OtherKeyError](err); other {
		return nil, withHint(err, otherKeyHint)
	}
	if err != nil { // Redis does not answer: Watch asks again
		g.log.Warn("the gateways of the site could not agree on a key yet", "site", s.Wwwroot.String(), "error", err)
	}
	g.mu.Lock()
	g.keyrings[s.Wwwroot] = keys
	g.mu.Unlock()
	g.background.Go(func() { keys.Watch(g.ctx, s.MNet.RotateKey, g.log) })
	return keys, nil
}

// source returns what knows whose a Moodle session is.
func (g *instance) source(c *config.Config, s *config.Site, state *store.Site, keys *mnet.Keyring) (idp.Source, error) {
	id := s.Identity
	if id.Source == config.MoodleWeb {
		token := string(id.Token)
		return moodle.NewWeb(moodle.WebOptions{
			Upstream: s.Upstream, Site: s.Wwwroot, Cookie: id.Cookie,
			Token: func() string { return token },
			MFA:   id.MFA, Cache: state.Cache("identity"), CacheKey: func() [32]byte { return keys.Current().Derive("identity cache") },
		}), nil
	}
	client, err := g.moodleRedis(c, id.Redis)
	if err != nil {
		return nil, err
	}
	return moodle.NewRedisSessions(moodle.RedisOptions{
		Client: client, Prefix: id.Prefix, SessionTimeout: id.SessionTimeout, LocalHostID: id.MnetLocalhostID, MFA: id.MFA,
	}), nil
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

// caller returns what calls a site's peers, and begins to fetch the
// certificates that nobody has pinned yet.
func (g *instance) caller(s *config.Site, keys *mnet.Keyring, state *store.Site, dir string) *mnet.Caller {
	caller := newCaller(s, keys, state, dir, g.log)
	g.background.Go(func() {
		for _, peer := range s.Peers.Peers() {
			if peer.Certificate != nil || g.ctx.Err() != nil {
				continue
			}
			ctx, cancel := context.WithTimeout(g.ctx, 15*time.Second)
			if _, err := caller.Pins.Certificate(ctx, peer); err != nil && g.ctx.Err() == nil {
				g.log.LogAttrs(ctx, slog.LevelWarn, "a peer has no certificate yet: its learners cannot land until it answers",
					slog.String("peer", peer.Wwwroot.String()), slog.Any("error", err))
			}
			cancel()
		}
	})
	return caller
}

// newCaller returns what calls a site's peers. state may be nil.
func newCaller(s *config.Site, keys *mnet.Keyring, state *store.Site, dir string, log *slog.Logger) *mnet.Caller {
	client := &mnet.Client{Keys: keys.Keys, Site: s.Wwwroot, HTTP: &http.Client{Timeout: time.Minute}}
	pins := &mnet.Pins{Dir: filepath.Join(dir, "peers"), Fetch: client.FetchCertificate, Log: log}
	if state != nil {
		pins.Chains = state
	}
	return &mnet.Caller{Client: client, Pins: pins}
}
