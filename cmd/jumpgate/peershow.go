package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

type peerListCommand struct {
	siteFlags `embed:""`
	JSON      bool `help:"Print one JSON object a line."`
}

// peerLine is a line of the list.
type peerLine struct {
	Wwwroot     string   `json:"wwwroot"`
	Name        string   `json:"name"`
	Application string   `json:"application"`
	Fingerprint string   `json:"fingerprint"` // empty if nothing is pinned yet
	Expires     string   `json:"expires"`     // RFC 3339; empty if only the fingerprint is known
	Publish     []string `json:"publish"`
	Subscribe   []string `json:"subscribe"`
	Refused     string   `json:"refused,omitempty"` // rule by which nobody deals with the peer now
	Written     string   `json:"written"`           // file, line and column
}

// Run lists the peers of a site in the order of the configuration.
func (c peerListCommand) Run(t *terminal) error {
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	var lines []peerLine
	for _, peer := range d.site.Peers.Peers() {
		lines = append(lines, d.line(t.ctx, peer))
	}
	if c.JSON {
		return writeJSON(t.stdout, lines)
	}
	w := tabwriter.NewWriter(t.stdout, 0, 0, 3, ' ', 0)
	for _, l := range lines {
		expires, _, _ := strings.Cut(l.Expires, "T")
		if end, err := time.Parse(time.RFC3339, l.Expires); err == nil && end.Before(time.Now()) {
			expires += " (expired)"
		}
		refused := ""
		if l.Refused != "" {
			refused = ", refused: " + l.Refused
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\tpublish %s, subscribe to %s%s\n", l.Wwwroot, l.Name, l.Application,
			orDash(l.Fingerprint), orDash(expires), list(l.Publish), list(l.Subscribe), refused)
	}
	return w.Flush()
}

func (d *desk) line(ctx context.Context, p *gateway.Peer) peerLine {
	l := peerLine{
		Wwwroot: p.Wwwroot.String(), Name: p.Label(), Application: string(p.Application),
		Publish: append([]string{}, p.Publish...), Subscribe: append([]string{}, p.Subscribe...),
		Written: d.site.PeerPosition(p).String(),
	}
	if rule := p.Standing(time.Now()); rule != gateway.RuleOK {
		l.Refused = string(rule)
	}
	if cert, err := d.pinned(ctx, p); err == nil {
		l.Fingerprint, l.Expires = cert.Fingerprint().String(), cert.NotAfter.UTC().Format(time.RFC3339)
	} else if !p.Fingerprint.IsZero() {
		l.Fingerprint = p.Fingerprint.String()
	}
	return l
}

func writeJSON[T any](out io.Writer, lines []T) error {
	for _, line := range lines {
		if err := encodeJSON(out, line); err != nil {
			return err
		}
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

type peerShowCommand struct {
	siteFlags `embed:""`
	Wwwroot   string `arg:"" placeholder:"WWWROOT" help:"A peer."`
}

// Help explains more than fits a line.
func (peerShowCommand) Help() string {
	return "Asks the peer what it grants us. Exit code 0 if learners of ours can land there, 1 if something is missing or the peer does not say."
}

// Run says who the peer is, what either side grants, and what is missing.
func (c peerShowCommand) Run(t *terminal) error {
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	peer, err := d.peer(c.Wwwroot)
	if err != nil {
		return err
	}
	rows := [][2]string{
		{"name", peer.Label()}, {"application", string(peer.Application)}, {"wwwroot", peer.Wwwroot.String()},
		{"written in", d.site.PeerPosition(peer).String()},
	}
	ctx, cancel := context.WithTimeout(t.ctx, askTime)
	defer cancel()
	cert, err := d.caller.Pins.Certificate(ctx, peer)
	var theirs grants
	if err == nil {
		rows = append(rows, [2]string{"fingerprint", cert.Fingerprint().String()}, [2]string{"expires", expiry(cert)})
		theirs, err = d.services(ctx, peer, cert)
	} else {
		err = inWords(err, peer.Wwwroot, d.site.Wwwroot)
	}
	table(t.stdout, rows)
	fmt.Fprintln(t.stdout)
	known := err == nil && peer.Application != gateway.Mahara
	table(t.stdout, inPairs(peer, theirs, known))
	if err != nil {
		fmt.Fprintf(t.stdout, "\nWhat the peer grants is not known.\n")
		return err
	}
	missing := d.missing(peer, theirs, known)
	if peer.Application == gateway.Mahara {
		fmt.Fprintf(t.stdout, "\nMahara knows us, and does not say what it grants. For learners to land there, under\n  %s\nits SSO direction must be \"They SSO in\", and \"We auto-create users\" must be on.\n", menuMahara)
	}
	if len(missing) > 0 {
		fmt.Fprintf(t.stdout, "\nLearners of %s cannot land there. What is missing:\n  %s\n", d.site.Wwwroot, strings.Join(missing, "\n  "))
		return errQuiet
	}
	if known {
		fmt.Fprintf(t.stdout, "\nLearners of %s can land there.\n", d.site.Wwwroot)
	}
	return nil
}

// grant is one service as a peer grants it to us.
type grant struct{ publish, subscribe bool }

// grants are what a peer grants us, by service.
type grants map[string]grant

func (g grants) published() []string { return g.where(func(g grant) bool { return g.publish }) }

func (g grants) subscribed() []string { return g.where(func(g grant) bool { return g.subscribe }) }

func (g grants) where(is func(grant) bool) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(g)) {
		if is(g[name]) {
			names = append(names, name)
		}
	}
	return names
}

// maxServices is far above what any site has.
const maxServices = 100

// serviceName is what a name must look like to be shown.
var serviceName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`) // Moodle's mnet_service.name column

// services asks a site what it grants us (protocol page, section 5.1). It says
// so only to who is its peer; the error is in words.
func (d *desk) services(ctx context.Context, p *gateway.Peer, cert *gateway.Certificate) (grants, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	const method = "system/listServices"
	var v mnet.Value
	var err error
	if d.site.Peers.Exact(p.Wwwroot.String()) != nil {
		v, err = d.caller.Call(ctx, p, method) // which follows a change of keys
	} else {
		v, err = d.caller.Client.Call(ctx, p, cert, method)
	}
	if err != nil {
		return nil, inWords(err, p.Wwwroot, d.site.Wwwroot)
	}
	all, ok := v.(mnet.Array)
	if !ok || len(all) > maxServices {
		return nil, errors.New("the peer's list of services is not understood")
	}
	theirs := grants{}
	for _, item := range all {
		s, _ := item.(mnet.Struct)
		is := func(name string) bool {
			v, _ := s.Get(name)
			n, _ := mnet.Int(v)
			return n != 0
		}
		name, _ := s.Get("name")
		if service := mnet.Text(name); serviceName.MatchString(service) {
			theirs[service] = grant{is("publish"), is("subscribe")}
		}
	}
	return theirs, nil
}

// inPairs says in words what both sides have granted of each service: what one
// publishes the other has to subscribe to.
func inPairs(p *gateway.Peer, theirs grants, known bool) [][2]string {
	names := slices.Concat(p.Publish, p.Subscribe, slices.Collect(maps.Keys(theirs)))
	slices.Sort(names)
	var rows [][2]string
	for _, name := range slices.Compact(names) {
		service := theirs[name]
		var words []string
		if p.Publishes(name) || service.subscribe {
			words = append(words, halves("we", p.Publishes(name), true, "the peer", service.subscribe, known))
		}
		if p.Subscribes(name) || service.publish {
			words = append(words, halves("the peer", service.publish, known, "we", p.Subscribes(name), true))
		}
		if len(words) > 0 {
			rows = append(rows, [2]string{name, strings.Join(words, "; and ")})
		}
	}
	return rows
}

// halves says that a publishes a service and b subscribes to it, or not, or that
// nobody knows.
func halves(a string, publishes, knownA bool, b string, subscribes, knownB bool) string {
	return half(a, "publish", "es", "", publishes, knownA) + "; " + half(b, "subscribe", "s", " to", subscribes, knownB)
}

func half(who, verb, s, preposition string, does, known bool) string {
	we := who == "we"
	switch {
	case !known:
		return "whether " + who + " " + verb + s + preposition + " it is not known"
	case does && we:
		return who + " " + verb + preposition + " it"
	case does:
		return who + " " + verb + s + preposition + " it"
	case we:
		return who + " do not " + verb + preposition + " it"
	}
	return who + " does not " + verb + preposition + " it"
}

// missing says what has to be done before learners of ours can land at a peer
// (protocol page, section 5.2), and where.
func (d *desk) missing(p *gateway.Peer, theirs grants, known bool) []string {
	var all []string
	if d.site.MNet.Off {
		all = append(all, "here: "+gateway.RuleMNetOff.Meaning())
	}
	if rule := p.Standing(time.Now()); rule != gateway.RuleOK {
		all = append(all, fmt.Sprintf("here: %s (%s)", rule.Meaning(), d.site.PeerPosition(p)))
	}
	here := "here: write %s into " + `"%s" of the peer (%s)`
	if !p.Publishes(gateway.ServiceSSOIDP) {
		all = append(all, fmt.Sprintf(here, gateway.ServiceSSOIDP, "publish", d.site.PeerPosition(p)))
	}
	if !p.Subscribes(gateway.ServiceSSOSP) {
		all = append(all, fmt.Sprintf(here, gateway.ServiceSSOSP, "subscribe", d.site.PeerPosition(p)))
	}
	there := "at the peer: " + menuPeers + " > " + d.site.Wwwroot.String() + " > Services: tick %s at %s"
	if known && !theirs[gateway.ServiceSSOIDP].subscribe {
		all = append(all, fmt.Sprintf(there, "Subscribe", "SSO (Identity Provider)"))
	}
	if known && !theirs[gateway.ServiceSSOSP].publish {
		all = append(all, fmt.Sprintf(there, "Publish", "SSO (Service Provider)"))
	}
	return all
}
