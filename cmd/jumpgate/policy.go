package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
)

type policyCommand struct {
	Print policyPrintCommand `cmd:"" help:"Print all rules by which a site sends learners to others, to read, keep and compare."`
	Test  policyTestCommand  `cmd:"" help:"Try cases of your own against a configuration."`
}

type policyPrintCommand struct {
	siteFlags `embed:""`
	JSON      bool `help:"Print one JSON object."`
}

// policy is what decides about jumps of a site. It has no clock and no state:
// the same configuration is printed the same, whatever the order of its peers.
type policy struct {
	Site    string   `json:"site"`
	Aliases []string `json:"aliases"`
	Issuer  string   `json:"issuer"`
	MNet    string   `json:"mnet"` // strict or off
	// LoginProvider is the OpenID provider that learners are sent to; empty for
	// the login of Moodle.
	LoginProvider string       `json:"login_provider"`
	Roam          accessDoc    `json:"roam"`
	Rates         policyRates  `json:"rates"`
	Redirects     redirectsDoc `json:"redirects"`
	// Of jumps that a foreign page may have begun, and of links.
	UnsignedJumps string `json:"unsigned_jumps"`
	MaxLinkDays   int    `json:"max_link_days"`
	// Of learners of others who come here.
	Landing  string       `json:"landing"`            // moodle, header or jwt
	Accounts string       `json:"accounts,omitempty"` // unless by Moodle: what theirs are called
	Session  string       `json:"session,omitempty"`  // with jwt: the algorithm, and how long sessions last
	Bounce   string       `json:"bounce"`             // off, choose or auto
	Peers    []policyPeer `json:"peers"`
	Rules    []policyRule `json:"rules"`
}

// policyRates are how often learners may jump; peers have theirs.
type policyRates struct {
	User    string `json:"user"`    // "30/m", "30/m burst 5" or "off"
	Address string `json:"address"` // likewise
}

// redirectsDoc is where the Moodle behind may send browsers, besides the site
// itself, its peers and its login provider.
type redirectsDoc struct {
	Mode  string   `json:"mode"` // report or enforce
	Allow []string `json:"allow"`
}

type policyPeer struct {
	Wwwroot     string    `json:"wwwroot"`
	Aliases     []string  `json:"aliases"`
	Name        string    `json:"name"`
	HostID      int       `json:"hostid"` // 0 for none
	Application string    `json:"application"`
	Enabled     bool      `json:"enabled"`
	Expires     string    `json:"expires"` // the last day, in UTC; empty for never
	Publish     []string  `json:"publish"`
	Subscribe   []string  `json:"subscribe"`
	AllowPaths  []string  `json:"allow_paths"` // empty for all
	DenyPaths   []string  `json:"deny_paths"`
	Rate        string    `json:"rate"` // "off" for none
	Roam        accessDoc `json:"roam"`
	Access      accessDoc `json:"access"`
	Signed      bool      `json:"require_signed"`
	Export      []string  `json:"export"`
	AutoAdd     string    `json:"auto_add_remote_users,omitempty"` // of sites with landing header alone
	Import      []string  `json:"import,omitempty"`                // likewise
	Fingerprint string    `json:"fingerprint"`                     // empty: the first one that is fetched over TLS is kept
}

// accessDoc has nil for a list that is not there: everybody, or nobody.
type accessDoc struct {
	Allow []string `json:"allow"`
	Deny  []string `json:"deny"`
}

type policyRule struct {
	Rule     gateway.Rule `json:"rule"`
	About    string       `json:"about"`
	Decision string       `json:"decision"`
	Meaning  string       `json:"meaning"`
}

// Run prints the policy of a site.
func (c policyPrintCommand) Run(t *terminal) error {
	loaded, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	site, err := c.pick(loaded)
	if err != nil {
		return err
	}
	p := policyOf(site, loaded.Limits)
	if c.JSON {
		var line, b bytes.Buffer
		if err := errors.Join(encodeJSON(&line, p), json.Indent(&b, line.Bytes(), "", "  ")); err != nil {
			return err
		}
		_, err := b.WriteTo(t.stdout)
		return err
	}
	var b strings.Builder
	p.write(&b)
	_, err = io.WriteString(t.stdout, b.String())
	return err
}

func policyOf(s *config.Site, limits config.Limits) policy {
	p := policy{
		Site: s.Wwwroot.String(), Aliases: sortedNames(s.Aliases), Issuer: s.Issuer, MNet: "strict", Roam: accessOf(s.Roam),
		Rates:         policyRates{limits.JumpsPerUser.String(), limits.JumpsPerAddress.String()},
		Redirects:     redirectsDoc{Mode: s.Redirects.Mode(), Allow: []string{}},
		UnsignedJumps: string(s.Unsigned), MaxLinkDays: int(s.MaxLinkLife / (24 * time.Hour)), Bounce: s.Bounce, Peers: []policyPeer{},
	}
	if s.Issuer == config.IssuerMoodle {
		p.Rates.User = "off" // Moodle alone knows who it is
	}
	for _, entry := range s.Redirects.Allow {
		p.Redirects.Allow = append(p.Redirects.Allow, entry.String())
	}
	slices.Sort(p.Redirects.Allow)
	if s.Identity.OpenID != nil {
		p.LoginProvider = s.Identity.OpenID.Issuer
	}
	if s.MNet.Off {
		p.MNet = "off"
	}
	if p.Landing = s.Landing.By; s.Landing.Redeems() {
		p.Accounts = s.Landing.Names.String()
	}
	if p.Landing == config.LandingJWT {
		p.Session = fmt.Sprintf("%s, ends after %s, or %s without a request", s.Landing.Algorithm, s.Landing.SessionLife, s.Landing.SessionIdle)
	}
	for _, peer := range s.Peers.Peers() {
		d := policyPeerOf(peer, limits.JumpsPerPeer)
		if s.Landing.Redeems() {
			d.taken(s, peer)
		}
		p.Peers = append(p.Peers, d)
	}
	slices.SortFunc(p.Peers, func(a, b policyPeer) int { return strings.Compare(a.Wwwroot, b.Wwwroot) })
	for _, m := range gateway.Rules() {
		decision := "refuse"
		if m.Allows {
			decision = "allow"
		}
		p.Rules = append(p.Rules, policyRule{m.Rule, m.About, decision, m.Meaning})
	}
	return p
}

func policyPeerOf(p *gateway.Peer, rate gateway.Rate) policyPeer {
	if p.Rate != nil {
		rate = *p.Rate
	}
	d := policyPeer{
		Wwwroot: p.Wwwroot.String(), Aliases: sortedNames(p.Aliases), Name: p.Label(), HostID: p.HostID,
		Application: string(p.Application), Enabled: !p.Off, Expires: p.LastDay(),
		Publish: sorted(p.Publish), Subscribe: sorted(p.Subscribe), AllowPaths: sorted(p.AllowPaths), DenyPaths: sorted(p.DenyPaths),
		Rate: rate.String(),
		Roam: accessOf(p.Roam), Access: accessOf(p.Access), Signed: p.RequireSigned, Export: []string{},
	}
	for _, field := range gateway.ProfileFields {
		if p.Exports(field) {
			d.Export = append(d.Export, field)
		}
	}
	if p.Certificate != nil {
		d.Fingerprint = p.Certificate.Fingerprint().String()
	} else if !p.Fingerprint.IsZero() {
		d.Fingerprint = p.Fingerprint.String()
	}
	return d
}

// taken adds what becomes of a peer's learners who come here.
func (d *policyPeer) taken(s *config.Site, p *gateway.Peer) {
	d.AutoAdd, d.Import = string(cmp.Or(p.AutoAdd, gateway.AutoAddCreate)), []string{}
	for _, field := range gateway.ImportFields {
		if p.Imports(field) && (field != "picture" || s.Landing.TakesPictures()) {
			d.Import = append(d.Import, field)
		}
	}
}

func sortedNames(names []gateway.Wwwroot) []string {
	var all []string
	for _, name := range names {
		all = append(all, name.String())
	}
	return sorted(all)
}

// sorted returns a sorted copy, never nil.
func sorted(all []string) []string {
	c := append([]string{}, all...)
	slices.Sort(c)
	return c
}

func accessOf(a gateway.Access) (d accessDoc) {
	if a.Allow != nil {
		d.Allow = sorted(a.Allow.Entries())
	}
	if a.Deny != nil {
		d.Deny = sorted(a.Deny.Entries())
	}
	return d
}

// write prints a policy to be read: a line for each fact, so that a change of
// one is a change of one line.
func (p policy) write(out io.Writer) {
	row := func(name, text string) { fmt.Fprintf(out, "%-14s  %s\n", name, text) }
	row("site", p.Site)
	row("aliases", words(p.Aliases, "none"))
	row("issuer", p.Issuer)
	row("mnet", p.MNet)
	row("login_provider", cmp.Or(p.LoginProvider, "none: Moodle's own login"))
	row("roam", p.Roam.String())
	row("user rate", p.Rates.User)
	row("address rate", p.Rates.Address)
	row("redirects", p.Redirects.Mode)
	row("  allow", words(p.Redirects.Allow, "nothing"))
	row("unsigned_jumps", p.UnsignedJumps)
	row("max_link_life", strconv.Itoa(p.MaxLinkDays)+"d")
	row("landing", p.Landing)
	if p.Accounts != "" {
		row("  accounts", p.Accounts)
	}
	if p.Session != "" {
		row("  session", p.Session)
	}
	row("bounce", p.Bounce)
	for _, peer := range p.Peers {
		fmt.Fprintln(out)
		row("peer", peer.Wwwroot)
		peer.write(row)
	}
	about := ""
	for _, rule := range p.Rules {
		if rule.About != about {
			about = rule.About
			fmt.Fprintf(out, "\nabout the %s\n", about)
		}
		fmt.Fprintf(out, "%-6s  %-19s  %s\n", rule.Decision, rule.Rule, rule.Meaning)
	}
}

func (d policyPeer) write(row func(name, text string)) {
	enabled, end, id, signed := "yes", "never", "none", "not required"
	if d.Signed {
		signed = "required"
	}
	if !d.Enabled {
		enabled = "no"
	}
	if d.Expires != "" {
		end = "after " + d.Expires
	}
	if d.HostID != 0 {
		id = strconv.Itoa(d.HostID)
	}
	row("  enabled", enabled)
	row("  expires", end)
	row("  name", strconv.QuoteToGraphic(d.Name))
	row("  application", d.Application)
	row("  aliases", words(d.Aliases, "none"))
	row("  hostid", id)
	row("  publish", words(d.Publish, "nothing"))
	row("  subscribe", words(d.Subscribe, "nothing"))
	row("  allow_paths", words(d.AllowPaths, "all"))
	row("  deny_paths", words(d.DenyPaths, "none"))
	row("  rate", d.Rate)
	row("  roam", d.Roam.String())
	row("  access", d.Access.String())
	row("  signed", signed)
	row("  export", words(d.Export, "nothing"))
	if d.AutoAdd != "" {
		row("  import", words(d.Import, "nothing"))
		row("  no account", d.AutoAdd)
	}
	row("  fingerprint", cmp.Or(d.Fingerprint, "of the first certificate that is fetched over TLS"))
}

// words returns a list in one line, or what an empty one means.
func words(all []string, none string) string { return cmp.Or(strings.Join(all, ", "), none) }

// String says who may.
func (d accessDoc) String() string {
	who := "everybody"
	if d.Allow != nil {
		who = words(d.Allow, "nobody")
	}
	if len(d.Deny) > 0 {
		who += ", but not " + strings.Join(d.Deny, ", ")
	}
	return who
}
