package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
)

// siteFlags name the site that a command acts for.
type siteFlags struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"Configuration file."`
	Site   string `placeholder:"WWWROOT" help:"The site to act for, if the configuration has several."`
}

// desk is what a command has at hand that acts for a site, whether its
// gateways run or not.
type desk struct {
	config *config.Config
	site   *config.Site
	dir    string // the site's own below the state directory
	keys   *mnet.Keyring
	caller *mnet.Caller

	redis *store.Redis // nil if it is embedded: then it lives in the gateway's process
	state *store.Site  // nil then too
}

// open puts a desk together; close ends it.
func (f siteFlags) open(t *terminal) (*desk, error) {
	loaded, err := config.Load(f.Config)
	if err != nil {
		return nil, err
	}
	if err := notAsRoot(loaded.StateDir); err != nil {
		return nil, err
	}
	d := &desk{config: loaded}
	if d.site, err = f.pick(loaded); err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(t.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	d.dir = siteDir(loaded, d.site)
	if err := os.MkdirAll(filepath.Join(d.dir, "peers"), 0o700); err != nil {
		return nil, withHint(err, "run the command as the account that runs the gateway")
	}
	if !loaded.Redis.Embedded {
		if d.redis, err = store.Open(redisOptions(loaded.Redis)); err != nil {
			return nil, fmt.Errorf("redis: %w", err)
		}
		d.state = d.redis.Site(d.site.Wwwroot)
	}
	keyChanged := func(k mnet.KeyChange) {
		if err := d.keep(keyEvent(d.site, k)); err != nil {
			log.Warn("a key has changed, but the audit trail does not tell", "error", err)
		}
	}
	options := keyOptions(d.site, d.dir, d.state, "")
	options.Changed = keyChanged
	if d.keys, err = openKeys(options, log); err != nil {
		d.close()
		return nil, err
	}
	d.caller = newCaller(newClient(d.site.Wwwroot, d.keys), d.state, d.dir, log)
	d.caller.Pins.Changed = keyChanged
	return d, nil
}

func (d *desk) close() {
	if d.redis != nil {
		d.redis.Close()
	}
}

// pick returns the site that --site names, or the only one.
func (f siteFlags) pick(c *config.Config) (*config.Site, error) {
	var names []string
	for _, site := range c.Sites {
		if names = append(names, site.Wwwroot.String()); f.Site == "" && len(c.Sites) == 1 {
			return site, nil
		}
		if w, err := gateway.ParseWwwroot(f.Site); err == nil && (w == site.Wwwroot || slices.Contains(site.Aliases, w)) {
			return site, nil
		}
	}
	hint := "say which one with --site: " + strings.Join(names, ", ")
	if f.Site == "" {
		return nil, &usageError{"the configuration has several sites", hint}
	}
	return nil, &usageError{fmt.Sprintf("the configuration has no site %q", f.Site), hint}
}

// peer returns the peer that an argument names.
func (d *desk) peer(name string) (*gateway.Peer, error) {
	if peer := d.site.Peers.Find(name); peer != nil {
		return peer, nil
	}
	return nil, withHint(fmt.Errorf("%q is not a peer of %s", name, d.site.Wwwroot), "jumpgate peer list shows them")
}

// throughHome returns the peer that an argument names, if links can lead through it.
func (d *desk) throughHome(name string) (*gateway.Peer, error) {
	home, err := d.peer(name)
	if err == nil && home.Application != gateway.Moodle {
		return nil, withHint(fmt.Errorf("no link leads through %s: a Mahara wants a number in it that only it knows", home.Wwwroot),
			"copy a link from a mail of the Mahara, or send its people the plain address")
	}
	return home, err
}

// shared returns the state that the site's gateways share.
func (d *desk) shared() (*store.Site, error) {
	if d.state == nil {
		return nil, withHint(errors.New("the gateway's state is in its embedded Redis, where no other process can look"),
			"give the gateway a Redis of its own (redis: in the configuration)")
	}
	return d.state, nil
}
