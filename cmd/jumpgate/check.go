package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
)

type checkCommand struct {
	Config  string   `short:"c" placeholder:"FILE" help:"Configuration file with the peers."`
	Peer    string   `placeholder:"WWWROOT" help:"The peer that the targets are for. Without a configuration, the only one there is."`
	User    string   `placeholder:"NAME" help:"A user of the site: also say whether they may jump there. Needs a configuration."`
	JSON    bool     `help:"Print one JSON object a line."`
	Targets []string `arg:"" name:"target" help:"A wantsurl, or without --peer also an address of a peer or a whole jump link. - reads one a line from standard input."`
}

// Help explains more than fits a line.
func (checkCommand) Help() string {
	return "Nothing is started and nobody is asked. Exit code 0 if all targets are allowed, 1 if one is refused."
}

// verdict is a line of the output.
type verdict struct {
	Target   string       `json:"target"`
	Decision string       `json:"decision"`
	Rule     gateway.Rule `json:"rule"`
	Location string       `json:"location"` // the page that the learner would end on
}

// Run prints a verdict for each target, in order.
func (c checkCommand) Run(t *terminal) error {
	checker, err := c.checker()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(t.stdout)
	write := text(out)
	if c.JSON {
		write = jsonLines(out)
	}
	refused := false
	one := func(target string) error {
		d := checker.decide(target)
		v := verdict{Target: target, Decision: "allow", Rule: d.Rule, Location: d.Target.URL()}
		if !d.Allow {
			v.Decision, refused = "refuse", true
		}
		return write(v)
	}
	for _, target := range c.Targets {
		if target == "-" {
			err = eachLine(t.stdin, one, out.Flush)
		} else {
			err = one(target)
		}
		if err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if refused {
		return errQuiet
	}
	return nil
}

func jsonLines(out io.Writer) func(verdict) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return func(v verdict) error { return encoder.Encode(v) }
}

func text(out io.Writer) func(verdict) error {
	return func(v verdict) error {
		_, err := fmt.Fprintf(out, "%-6s  %-16s  %s", v.Decision, v.Rule, strconv.QuoteToGraphic(v.Target))
		if err == nil && v.Location != "" {
			_, err = fmt.Fprintf(out, "  ->  %s", v.Location)
		}
		if err == nil {
			_, err = fmt.Fprintln(out)
		}
		return err
	}
}

// maxLine bounds what is kept of a line of standard input; whatever is longer
// is refused for its length all the same.
const maxLine = 64 << 10

// eachLine calls f with each line, without its newline and with everything
// else. A last line without a newline counts. Before it waits for more, it
// calls idle.
func eachLine(in io.Reader, f func(string) error, idle func() error) error {
	r := bufio.NewReaderSize(in, maxLine)
	for {
		if r.Buffered() == 0 {
			if err := idle(); err != nil {
				return err
			}
		}
		line, err := r.ReadSlice('\n')
		kept := string(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
		switch {
		case err == nil:
			kept = strings.TrimSuffix(kept, "\n")
		case !errors.Is(err, io.EOF):
			return fmt.Errorf("standard input: %w", err)
		case kept == "":
			return nil
		}
		if ferr := f(kept); ferr != nil || err != nil {
			return ferr
		}
	}
}

// checker decides targets as the gateway would.
type checker struct {
	sites []*config.Site // whose links and peers a target may name; none with --peer
	site  *config.Site   // that the peer belongs to
	peer  string         // hostwwwroot of targets that name none; "" if there is none
	user  string         // who would jump; "" if nobody asks
}

func (c checkCommand) checker() (*checker, error) {
	switch {
	case c.Config == "" && c.Peer == "":
		return nil, &usageError{"neither a configuration nor a peer is given", "give -c jumpgate.yaml or --peer https://forum.example.org"}
	case c.Config == "" && c.User != "":
		return nil, &usageError{"without a configuration everybody may jump", "give -c jumpgate.yaml with --user"}
	case c.Config == "":
		wwwroot, err := gateway.ParseWwwroot(c.Peer)
		if err != nil {
			return nil, &usageError{"--peer: " + err.Error(), "give the whole address, such as https://forum.example.org"}
		}
		peers, err := gateway.NewAllowlist(&gateway.Peer{
			Wwwroot: wwwroot, Application: gateway.Moodle,
			Publish: []string{gateway.ServiceSSOIDP}, Subscribe: []string{gateway.ServiceSSOSP},
		})
		return &checker{site: &config.Site{Peers: peers}, peer: c.Peer}, err
	}
	loaded, err := config.Load(c.Config)
	if err != nil {
		return nil, err
	}
	k := &checker{site: loaded.Sites[0], peer: c.Peer, user: c.User}
	if c.Peer == "" {
		k.sites = loaded.Sites
		if only := k.site.Peers.Peers(); len(k.sites) == 1 && len(only) == 1 {
			k.peer = only[0].Wwwroot.String()
		}
		return k, nil
	}
	for _, site := range loaded.Sites {
		if site.Peers.Find(c.Peer) != nil {
			k.site = site
			break
		}
	}
	return k, nil
}

func (k *checker) decide(target string) gateway.Decision {
	for _, site := range k.sites {
		for _, jump := range jumpAddresses(site) {
			if query, ok := strings.CutPrefix(target, jump+"?"); ok {
				q, rule := gateway.ParseQuery(query)
				if rule != gateway.RuleOK {
					return gateway.Decision{Rule: rule}
				}
				return k.at(site, q)
			}
		}
	}
	if k.peer != "" {
		return k.at(k.site, gateway.Query{Hostwwwroot: k.peer, Wantsurl: target})
	}
	// An address of a peer says itself which one it is for.
	for _, site := range k.sites {
		for _, peer := range site.Peers.Peers() {
			if _, rule := gateway.ParseTarget(peer, target); rule == gateway.RulePeerURL {
				return k.at(site, gateway.Query{Hostwwwroot: peer.Wwwroot.String(), Wantsurl: target})
			}
		}
	}
	return gateway.Decision{Rule: gateway.RulePeerMissing}
}

// jumpAddresses returns where a site takes jumps, under all its names.
func jumpAddresses(site *config.Site) []string {
	var all []string
	for _, name := range append([]gateway.Wwwroot{site.Wwwroot}, site.Aliases...) {
		for _, application := range []gateway.Application{gateway.Moodle, gateway.Mahara} {
			all = append(all, name.String()+application.JumpPath())
		}
	}
	return all
}

// at decides a query at a site.
func (k *checker) at(site *config.Site, q gateway.Query) gateway.Decision {
	d, itself := gateway.DecideAt(gateway.OwnSite(site.Wwwroot, site.Aliases...), site.Peers, q, time.Now())
	if d.Allow && !itself && k.user != "" && !gateway.MayRoam(site.Roam, d.Peer, k.user) {
		return gateway.Decision{Rule: gateway.RuleUserNotAllowed, Peer: d.Peer}
	}
	return d
}
