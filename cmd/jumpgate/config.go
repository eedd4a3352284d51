package main

import (
	"fmt"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
)

type configCommand struct {
	Check configCheckCommand `cmd:"" help:"Read a configuration and say what is wrong with it."`
	Print configPrintCommand `cmd:"" help:"Print a configuration with all defaults filled in and without secrets."`
}

type configCheckCommand struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"Configuration file."`
}

// Run prints warnings, and one line if all is well.
func (c configCheckCommand) Run(t *terminal) error {
	loaded, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	for _, warning := range loaded.Warnings {
		fmt.Fprintf(t.stderr, "jumpgate: warning: %s\n", warning)
	}
	peers := 0
	for _, site := range loaded.Sites {
		if site.KeyFile != "" {
			key, err := mnet.LoadKey(site.KeyFile, site.Wwwroot, site.Aliases...)
			if err != nil {
				return withHint(err, keyHint)
			}
			if !key.Certificate().Names(site.Wwwroot) {
				fmt.Fprintf(t.stderr, "jumpgate: warning: %s: %s\n", site.KeyFile, formerKey)
			}
		}
		peers += len(site.Peers.Peers())
		for _, p := range site.Peers.Peers() {
			if p.Standing(time.Now()) == gateway.RulePeerExpired {
				fmt.Fprintf(t.stderr, "jumpgate: warning: %s: the last day of %s was %s: every jump there is refused\n", site.PeerPosition(p), p.Wwwroot, p.LastDay())
			}
		}
	}
	_, err = fmt.Fprintf(t.stdout, "%s is good: sites %d, peers %d\n", c.Config, len(loaded.Sites), peers)
	return err
}

type configPrintCommand struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"Configuration file."`
}

// Run prints YAML.
func (c configPrintCommand) Run(t *terminal) error {
	loaded, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	return config.Print(t.stdout, loaded)
}
