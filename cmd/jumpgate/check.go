package main

import (
	"bufio"
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
	Explain bool     `help:"Show how the answer comes about, step by step."`
	Corpus  []string `sep:"none" placeholder:"FILE" help:"A list of targets, tried at every peer, as it stands and with escapes taken off once and twice; repeatable. Prints a summary."`
	Accept  bool     `xor:"expect" help:"With --corpus: every line must be allowed and stay as it is."`
	Refuse  bool     `xor:"expect" help:"With --corpus: every line must be refused."`
	Targets []string `arg:"" optional:"" name:"target" help:"A wantsurl, or without --peer also an address of a peer or a whole jump link. - reads one a line from standard input."`
}

// Help explains more than fits a line.
func (checkCommand) Help() string {
	return "Nothing is started and nobody is asked. Exit code 0 if all targets are allowed, 1 if one is refused. " +
		"With --corpus it is 1 if something is a surprise: a target that is allowed and leaves its peer, as a browser or Go reads it, or that is decided to something else when it is decided again; or what --accept and --refuse say."
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
	if err := c.usage(); err != nil {
		return err
	}
	checker, err := c.checker()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(t.stdout)
	if len(c.Corpus) > 0 {
		return c.corpora(out, checker)
	}
	write := text(out)
	if c.Explain {
		write = conclusion(out)
	}
	if c.JSON {
		write = jsonLines(out)
	}
	refused := false
	one := func(target string) error {
		d := checker.decide(target)
		if c.Explain {
			explain(out, checker, target)
		}
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

// usage returns an error if the flags do not go together.
func (c checkCommand) usage() error {
	switch {
	case len(c.Targets) == 0 && len(c.Corpus) == 0:
		return &usageError{`expected "<target> ..."`, "give a target, or a list of them with --corpus"}
	case len(c.Targets) > 0 && len(c.Corpus) > 0:
		return &usageError{"both targets and a corpus are given", "try them one after the other"}
	case (c.Accept || c.Refuse) && len(c.Corpus) == 0:
		return &usageError{"--accept and --refuse are about a corpus", "give it with --corpus"}
	case c.Explain && (c.JSON || len(c.Corpus) > 0):
		return &usageError{"--explain is for people, and for targets that are given one by one", "leave --json and --corpus out"}
	}
	return nil
}

func jsonLines(out io.Writer) func(verdict) error {
	return func(v verdict) error { return encodeJSON(out, v) }
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
	now   time.Time
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
		return &checker{site: &config.Site{Peers: peers}, peer: c.Peer, now: time.Now()}, err
	}
	loaded, err := config.Load(c.Config)
	if err != nil {
		return nil, err
	}
	k := &checker{site: loaded.Sites[0], peer: c.Peer, user: c.User, now: time.Now()}
	if c.Peer == "" {
		k.at(loaded.Sites...)
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

// at lets targets name the links and peers of sites themselves. What names none
// is for the only peer, if there is only one.
func (k *checker) at(sites ...*config.Site) {
	k.sites = sites
	if only := sites[0].Peers.Peers(); len(sites) == 1 && len(only) == 1 {
		k.peer = only[0].Wwwroot.String()
	}
}

func (k *checker) decide(target string) gateway.Decision {
	site, q, rule := k.query(target)
	if rule != gateway.RuleOK {
		return gateway.Decision{Rule: rule}
	}
	return k.judge(site, q)
}

// query returns what a target asks for, and of which site.
func (k *checker) query(target string) (*config.Site, gateway.Query, gateway.Rule) {
	for _, site := range k.sites {
		for _, jump := range jumpAddresses(site) {
			if query, ok := strings.CutPrefix(target, jump+"?"); ok {
				q, rule := gateway.ParseQuery(query)
				return site, q, rule
			}
		}
	}
	if k.peer != "" {
		return k.site, gateway.Query{Hostwwwroot: k.peer, Wantsurl: target}, gateway.RuleOK
	}
	// An address of a peer says itself which one it is for.
	for _, site := range k.sites {
		for _, peer := range site.Peers.Peers() {
			if _, rule := gateway.ParseTarget(peer, target); rule == gateway.RulePeerURL {
				return site, gateway.Query{Hostwwwroot: peer.Wwwroot.String(), Wantsurl: target}, gateway.RuleOK
			}
		}
	}
	return nil, gateway.Query{}, gateway.RulePeerMissing
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

// judge decides a query at a site.
func (k *checker) judge(site *config.Site, q gateway.Query) gateway.Decision {
	d, itself := gateway.DecideAt(gateway.OwnSite(site.Wwwroot, site.Aliases...), site.Peers, q, k.now)
	if d.Allow && !itself && k.user != "" && !gateway.MayRoam(site.Roam, d.Peer, k.user) {
		return gateway.Decision{Rule: gateway.RuleUserNotAllowed, Peer: d.Peer}
	}
	return d
}
