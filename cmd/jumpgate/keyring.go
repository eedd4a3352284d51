package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
)

const keyHint = "the file holds certificate and private key, in PEM or as Moodle stores them, and only its owner and group may read it (chmod 600)"

const formerKey = "the MNet key of the site still names a former address: when the site has moved for good, run jumpgate key rotate, and give the new certificate to peers that edit its address"

// keyOptions says where the keys of a site live. state is where its gateways
// agree on one, nil if it is alone.
func keyOptions(s *config.Site, dir string, state *store.Site, name string) mnet.KeyringOptions {
	o := mnet.KeyringOptions{Dir: dir, Site: s.Wwwroot, Aliases: s.Aliases, Import: s.KeyFile, Gateway: name}
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
	case errors.Is(err, mnet.ErrOtherSite):
		return nil, withHint(err, "if the site has moved, name its former address among its aliases")
	case err != nil && o.Import != "":
		return nil, withHint(err, keyHint)
	case err != nil:
		return nil, withHint(err, "the state directory must be writable, and the keys in it readable by their owner alone")
	case created:
		log.Info("made an MNet key", "site", o.Site.String(), "fingerprint", keys.Current().Certificate().Fingerprint().String())
		if o.Changed != nil {
			o.Changed(mnet.KeyChange{Of: o.Site, To: keys.Current().Certificate().Fingerprint(), How: mnet.KeyMade})
		}
	case !keys.Current().Certificate().Names(o.Site):
		log.Warn(formerKey, "site", o.Site.String())
	}
	return keys, nil
}

const otherKeyHint = "give all gateways of the site the same state_dir, or the same mnet.key_secret_file; if this key is the right one, run: jumpgate key import --current"

// standing is what of a site outlives a reload.
type standing struct {
	*mnet.Keyring
	rotate   atomic.Bool // as the configuration in force has it
	stop     context.CancelFunc
	budget   *mnet.Budget
	client   *mnet.Client
	fetching sync.Mutex // held while certificates of peers are fetched
}

// standing returns what of a site outlives a reload, and sees to it that its
// keys keep up with those of its other gateways.
func (g *instance) standing(c *config.Config, s *config.Site, dir string, state *store.Site) (*standing, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	known := g.sites[s.Wwwroot]
	if known == nil {
		var err error
		if known, err = g.openSite(c, s, dir, state); err != nil {
			return nil, err
		}
		g.sites[s.Wwwroot] = known
	} else {
		known.SetSecret([]byte(s.MNet.KeySecret))
		if s.KeyFile != "" {
			if err := known.Want(s.KeyFile); err != nil {
				return nil, withHint(err, keyHint)
			}
		}
	}
	// In guard mode the key is Moodle's to change.
	known.rotate.Store(s.MNet.RotateKey && s.Issuer == config.IssuerGateway)
	return known, nil
}

func (g *instance) openSite(c *config.Config, s *config.Site, dir string, state *store.Site) (*standing, error) {
	if c.Redis.Embedded {
		state = nil
	}
	options := keyOptions(s, dir, state, rand.Text())
	options.Changed = g.keyChanged(s)
	keys, err := openKeys(options, g.log)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(g.ctx, 3*time.Second)
	defer cancel()
	before := keys.Current().Certificate().Fingerprint()
	err = keys.Settle(limited)
	if now := keys.Current().Certificate().Fingerprint(); now != before {
		g.log.Info("the MNet key of the site has changed", "site", s.Wwwroot.String(), "from", before.String(), "to", now.String())
		options.Changed(mnet.KeyChange{Of: s.Wwwroot, From: before, To: now, How: mnet.KeyRotated})
	}
	if _, other := errors.AsType[*mnet.OtherKeyError](err); other {
		return nil, withHint(err, otherKeyHint)
	}
	if err != nil { // Redis does not answer: Watch asks again
		g.log.Warn("the gateways of the site could not agree on a key yet", "site", s.Wwwroot.String(), "error", err)
	}
	opened, log := &standing{Keyring: keys, budget: mnet.NewBudget(), client: newClient(s.Wwwroot, keys)}, g.log
	ctx, stop := context.WithCancel(g.ctx)
	opened.stop = stop
	g.background.Go(func() { keys.Watch(ctx, opened.rotate.Load, log) })
	return opened, nil
}

// leave ends what outlived a reload of sites that are not configured any more.
func (g *instance) leave(sites []*config.Site) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for w, known := range g.sites {
		if !slices.ContainsFunc(sites, func(s *config.Site) bool { return s.Wwwroot == w }) {
			known.stop()
			delete(g.sites, w)
		}
	}
}

// otherKey names a site whose gateways have agreed on a key that is not here.
func (g *instance) otherKey() (gateway.Wwwroot, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for site, known := range g.sites {
		if known.Failure() != nil {
			return site, true
		}
	}
	return gateway.Wwwroot{}, false
}
