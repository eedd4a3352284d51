package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/config"
	"jumpgate/gateway/store"
)

// peerFlags are what is written about a new peer.
type peerFlags struct {
	Application  string   `placeholder:"moodle|mahara" help:"What the site is; asked for if it is left out."`
	Name         string   `placeholder:"TEXT" help:"What pages call it; its own title if it is left out."`
	Alias        []string `sep:"none" placeholder:"WWWROOT" help:"A former or second address of it; repeatable."`
	Publish      []string `default:"sso_idp" placeholder:"SERVICE,…" help:"What it may ask us (sso_idp), or none."`
	Subscribe    []string `default:"sso_sp" placeholder:"SERVICE,…" help:"What we may ask it (sso_sp), or none."`
	InsecureHTTP bool     `name:"insecure-http" help:"Take a site without TLS, where anybody on the way can land as somebody else."`
}

type peerAddCommand struct {
	siteFlags  `embed:""`
	peerFlags  `embed:""`
	trustFlags `embed:""`
	Wwwroot    string `arg:"" placeholder:"WWWROOT" help:"The address of the site, as $CFG->wwwroot in its config.php."`
}

// Help explains more than fits a line.
func (peerAddCommand) Help() string {
	return "Shows what the site says about itself, asks whether to trust its certificate, and writes a file into the site's peers_dir. " +
		"A running gateway takes it up within seconds. Compare the fingerprint with the other administrator, not by a mail that anybody can write."
}

// Run adds a peer.
func (c peerAddCommand) Run(t *terminal) error {
	answer, err := c.check(t)
	if err != nil {
		return err
	}
	w, err := parseSite(c.Wwwroot)
	if err != nil {
		return err
	}
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	a := &addition{terminal: t, desk: d, answer: answer, command: "peer add"}
	return a.run(w, c.peerFlags, applications(gateway.Moodle))
}

// parseSite reads the address of a site from the command line.
func parseSite(s string) (gateway.Wwwroot, error) {
	w, err := gateway.ParseWwwroot(s)
	if err != nil {
		hint := "give the site's $CFG->wwwroot, such as https://forum.example.org"
		if guess, e := gateway.ParseWwwroot("https://" + s); e == nil && !strings.Contains(s, "://") {
			hint = "did you mean " + guess.String() + "?"
		}
		return w, &usageError{err.Error(), hint}
	}
	return w, nil
}

// applications returns all applications, the likely one first.
func applications(likely gateway.Application) []gateway.Application {
	if likely == gateway.Mahara {
		return []gateway.Application{gateway.Mahara, gateway.Moodle}
	}
	return []gateway.Application{gateway.Moodle, gateway.Mahara}
}

// addition is a site on its way to become a peer.
type addition struct {
	*terminal
	*desk
	answer  answer
	command string
	asked   []store.Request // what the site has asked for; nil if nothing is known of that
	next    string          // what to do when it is a peer
}

func (a *addition) run(w gateway.Wwwroot, f peerFlags, likely []gateway.Application) error {
	peer, err := f.peer(w)
	if err != nil {
		return err
	}
	if err := a.mayAdd(peer, f); err != nil {
		return err
	}
	if f.Application != "" {
		likely = []gateway.Application{peer.Application}
	}
	met, err := a.meet(a.ctx, w, likely...)
	if err != nil {
		return err
	}
	peer.Application, peer.Certificate, peer.Fingerprint = met.application, met.cert, met.cert.Fingerprint()
	if peer.Name == "" {
		peer.Name = met.name
	}
	a.show(peer)
	if err := a.sameAsAsked(w, met.cert); err != nil {
		return err
	}
	if err := a.answer.trusts(a.terminal, w, met.cert, "Trust this peer?"); err != nil {
		return err
	}
	return a.write(peer)
}

// peer returns the peer that the flags describe.
func (f peerFlags) peer(w gateway.Wwwroot) (*gateway.Peer, error) {
	p := &gateway.Peer{Wwwroot: w, Name: f.Name, Application: gateway.Application(f.Application)}
	switch p.Application {
	case "", gateway.Moodle, gateway.Mahara:
	default:
		return nil, &usageError{fmt.Sprintf("unknown application %q", f.Application), "write one of: moodle, mahara"}
	}
	var err error
	if p.Publish, err = services("--publish", f.Publish); err != nil {
		return nil, err
	}
	if p.Subscribe, err = services("--subscribe", f.Subscribe); err != nil {
		return nil, err
	}
	for _, text := range f.Alias {
		alias, err := gateway.ParseWwwroot(text)
		if err != nil {
			return nil, &usageError{"--alias: " + err.Error(), "give a whole address, such as https://old.example.org"}
		}
		p.Aliases = append(p.Aliases, alias)
	}
	return p, nil
}

// services reads the services in a flag.
func services(flag string, names []string) ([]string, error) {
	if slices.Equal(names, []string{"none"}) {
		return nil, nil
	}
	for _, name := range names {
		if !slices.Contains(config.Services, name) {
			return nil, &usageError{fmt.Sprintf("%s: unknown service %q", flag, name),
				"write one or more of " + strings.Join(config.Services, ", ") + " with commas between them, or none"}
		}
	}
	return names, nil
}

// mayAdd says what speaks against a peer before anybody is asked.
func (a *addition) mayAdd(p *gateway.Peer, f peerFlags) error {
	for _, name := range p.Names() {
		if name == a.site.Wwwroot || slices.Contains(a.site.Aliases, name) {
			return withHint(fmt.Errorf("%s is the site itself", name), "peers are the other sites")
		}
		if known := a.site.Peers.Exact(name.String()); known != nil {
			return withHint(fmt.Errorf("%s is a peer already (%s)", name, a.site.PeerPosition(known)),
				"jumpgate peer show tells about it, peer refresh takes over a new key, peer remove ends it")
		}
	}
	if p.Wwwroot.Scheme() == "http" && !p.Wwwroot.Loopback() && !f.InsecureHTTP {
		return withHint(fmt.Errorf("%s has no TLS: anybody on the way could land as somebody else", p.Wwwroot),
			"use its https address; or give --insecure-http and live with it")
	}
	if a.site.PeersDir == "" {
		return withHint(fmt.Errorf("%s has no peers_dir to write the peer to", a.site.Wwwroot),
			fmt.Sprintf("make a directory, such as peers.d beside %s, add the line peers_dir: peers.d to the site, and send a running gateway SIGHUP", a.config.File))
	}
	return nil
}

// show prints what is about to be trusted.
func (a *addition) show(p *gateway.Peer) {
	theirs, err := a.services(a.ctx, p, p.Certificate)
	offers := "publishes " + list(theirs.published()) + ", subscribes to " + list(theirs.subscribed())
	if p.Application == gateway.Mahara && err == nil {
		offers = "Mahara does not say"
	} else if err != nil {
		offers = err.Error()
	}
	a.next = "jumpgate peer show tells whether anything is missing"
	if hinted, ok := errors.AsType[*hintedError](err); ok {
		a.next = hinted.hint
	}
	remark := ""
	if p.Wwwroot.Scheme() != "https" && !p.Wwwroot.Loopback() {
		remark = "without TLS anybody could have answered this: compare the fingerprint"
	}
	table(a.stdout, [][2]string{
		{"name", p.Name},
		{"application", string(p.Application)},
		{"wwwroot", p.Wwwroot.String()},
		{"key", fmt.Sprintf("RSA, %d bits", p.Certificate.PublicKey.N.BitLen())},
		{"fingerprint", p.Certificate.Fingerprint().String()},
		{"remark", remark},
		{"expires", expiry(p.Certificate)},
		{"offers us", offers},
		{"we offer", "publish " + list(p.Publish) + ", subscribe to " + list(p.Subscribe)},
	})
}

// sameAsAsked refuses a certificate that the site hands out but has not asked
// with, unless it is named on the command line.
func (a *addition) sameAsAsked(w gateway.Wwwroot, cert *gateway.Certificate) error {
	if len(a.asked) == 0 || !a.answer.fingerprint.IsZero() {
		return nil
	}
	var asked []string
	for _, r := range a.asked {
		if r.Certificate.Fingerprint() == cert.Fingerprint() {
			return nil
		}
		asked = append(asked, r.Certificate.Fingerprint().String())
	}
	return withHint(fmt.Errorf("%s hands out the certificate %s, but the request came with %s: nothing was written",
		w, cert.Fingerprint(), strings.Join(asked, " and ")),
		"somebody else may have asked in its name; give --fingerprint with the one that its administrator confirms")
}

// write makes the peer a peer.
func (a *addition) write(p *gateway.Peer) error {
	if err := a.restart(a.ctx, p, p.Certificate); err != nil {
		return err
	}
	file, err := a.site.AddPeer(p, []string{
		fmt.Sprintf("A peer of %s. %s.", a.site.Wwwroot, author(a.command)),
		fmt.Sprintf("Certificate: %s, until %s.", p.Certificate.Fingerprint(), p.Certificate.NotAfter.UTC().Format("2006-01-02")),
		"To review it, compare that with what the peer's administrator sees, and read what it may do:",
		"publish is what it may ask us, subscribe what we may ask it. jumpgate peer show tells what is missing.",
	})
	switch {
	case errors.Is(err, fs.ErrExist):
		return withHint(err, "look into that file, and remove it if nobody needs it")
	case errors.Is(err, fs.ErrPermission):
		return withHint(err, "run the command as an account that may write to "+a.site.PeersDir)
	case err != nil:
		return err
	}
	if _, err := config.Load(a.config.File); err != nil {
		return errors.Join(err, os.Remove(file)) // all of it would not load any more
	}
	a.settled(a.ctx, p.Wwwroot)
	recorded := a.record(a.command, audit.Event{Peer: p.Wwwroot.String(), Detail: p.Certificate.Fingerprint().String()})
	_, err = fmt.Fprintf(a.stdout, "wrote %s\nnext: %s\n", file, a.next)
	return cmp.Or(recorded, err)
}

// settled forgets what a site has asked for.
func (d *desk) settled(ctx context.Context, w gateway.Wwwroot) {
	if d.state == nil {
		return
	}
	// Without Redis the request stays in the list, where it can be answered
	// once more.
	_ = d.state.Answer(ctx, w)
}

// table prints names and values, one a line; those without value not at all.
func table(out io.Writer, rows [][2]string) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		if row[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
		}
	}
	w.Flush()
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}
