package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
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

// siteKeys are the keys of a site, which outlive a reload.
type siteKeys struct {
	*mnet.Keyring
	rotate atomic.Bool // as the configuration in force has it
}

// keys returns the keyring of a site, and sees to it that it keeps up with the
// other gateways of the site.
func (g *instance) keys(c *config.Config, s *config.Site, dir string, state *store.Site) (*mnet.Keyring, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	opened := g.keyrings[s.Wwwroot]
	switch {
	case opened == nil:
		var err error
		if opened, err = g.openKeys(c, s, dir, state); err != nil {
			return nil, err
		}
		g.keyrings[s.Wwwroot] = opened
	case s.KeyFile != "":
		if err := opened.Want(s.KeyFile); err != nil {
			return nil, withHint(err, keyHint)
		}
	}
	// In guard mode the key is Moodle's to change.
	opened.rotate.Store(s.MNet.RotateKey && s.Issuer == config.IssuerGateway)
	return opened.Keyring, nil
}

func (g *instance) openKeys(c *config.Config, s *config.Site, dir string, state *store.Site) (*siteKeys, error) {
	if c.Redis.Embedded {
		state = nil
	}
	options := keyOptions(s, dir, state, rand.Text())
	options.Changed = g.keyChanged(s)
	keys, err := openKeys(options, g.log)
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
	opened, log := &siteKeys{Keyring: keys}, g.log
	g.background.Go(func() { keys.Watch(g.ctx, opened.rotate.Load, log) })
	return opened, nil
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
