package main

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/store"
)

type peerRefreshCommand struct {
	siteFlags  `embed:""`
	trustFlags `embed:""`
	Wwwroot    string `arg:"" placeholder:"WWWROOT" help:"A peer."`
}

// Help explains more than fits a line.
func (peerRefreshCommand) Help() string {
	return "Asks the peer for its current certificate and, if it is another one than the pinned, asks whether to trust it instead."
}

// Run pins the certificate that the peer has now.
func (c peerRefreshCommand) Run(t *terminal) error {
	answer, err := c.check(t)
	if err != nil {
		return err
	}
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	peer, err := d.peer(c.Wwwroot)
	if err != nil {
		return err
	}
	a := &addition{terminal: t, desk: d, answer: answer, command: "peer refresh"}
	return a.refresh(peer)
}

// refresh takes over another certificate of a peer.
func (a *addition) refresh(peer *gateway.Peer) error {
	old, oldErr := a.pinned(a.ctx, peer)
	ctx, cancel := context.WithTimeout(a.ctx, askTime)
	defer cancel()
	asked := &gateway.Peer{Wwwroot: peer.Wwwroot, Aliases: peer.Aliases, Application: peer.Application}
	if peer.Wwwroot.Scheme() != "https" {
		asked.Fingerprint = a.answer.fingerprint // without one, nothing is fetched without TLS
	}
	cert, err := a.caller.Client.FetchCertificate(ctx, asked)
	if err != nil {
		return inWords(err, peer.Wwwroot, a.site.Wwwroot)
	}
	rows := [][2]string{{"wwwroot", peer.Wwwroot.String()}}
	if oldErr == nil {
		rows = append(rows, [2]string{"pinned", old.Fingerprint().String()}, [2]string{"expires", expiry(old)})
	} else {
		rows = append(rows, [2]string{"pinned", "nothing that can be used: " + oldErr.Error()})
	}
	table(a.stdout, append(rows, [2]string{"shows now", cert.Fingerprint().String()}, [2]string{"expires", expiry(cert)}))
	if err := a.sameAsAsked(peer.Wwwroot, cert); err != nil {
		return err
	}
	if oldErr == nil && old.Fingerprint() == cert.Fingerprint() {
		_, err = fmt.Fprintln(a.stdout, "the pinned certificate is the current one: nothing to do")
		return err
	}
	if err := a.answer.trusts(a.terminal, peer.Wwwroot, cert, "Trust the new certificate instead?"); err != nil {
		return err
	}
	file := a.site.PeerFile(peer)
	if file == "" {
		return withHint(fmt.Errorf("%s is written in %s, which jumpgate does not change", peer.Wwwroot, a.site.PeerPosition(peer)),
			fmt.Sprintf("write there fingerprint: %s and no certificate, remove the peer's file from %s if there is one, and send the gateway SIGHUP",
				cert.Fingerprint(), a.caller.Pins.Dir))
	}
	if err := a.restart(a.ctx, peer, cert); err != nil {
		return err
	}
	if err := a.site.RepinPeer(peer, cert, []string{
		fmt.Sprintf("Another certificate, until %s. %s.", cert.NotAfter.UTC().Format("2006-01-02"), author(a.command)),
	}); err != nil {
		return withHint(err, "run the command as an account that may write to "+a.site.PeersDir)
	}
	a.settled(a.ctx, peer.Wwwroot)
	recorded := a.record(a.command, audit.Event{Peer: peer.Wwwroot.String(), Detail: cert.Fingerprint().String()})
	_, err = fmt.Fprintf(a.stdout, "wrote %s\n", file)
	return cmp.Or(recorded, err)
}

// restart lets trust in a peer begin anew: whatever its former certificates
// vouched for is over.
func (d *desk) restart(ctx context.Context, peer *gateway.Peer, cert *gateway.Certificate) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return withHint(d.caller.Pins.Restart(ctx, peer, cert), "see that Redis runs, and that this account may write to "+d.caller.Pins.Dir)
}

type peerRemoveCommand struct {
	siteFlags `embed:""`
	Yes       bool   `help:"Do not ask."`
	Wwwroot   string `arg:"" placeholder:"WWWROOT" help:"A peer."`
}

// Run removes the file of a peer.
func (c peerRemoveCommand) Run(t *terminal) error {
	if !c.Yes && !t.interactive() {
		return &usageError{"nobody can be asked: standard input is no terminal", "give --yes"}
	}
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	peer, err := d.peer(c.Wwwroot)
	if err != nil {
		return err
	}
	file := d.site.PeerFile(peer)
	if file == "" {
		return withHint(fmt.Errorf("%s is written in %s, which jumpgate does not change", peer.Wwwroot, d.site.PeerPosition(peer)),
			"remove it there, and send the gateway SIGHUP")
	}
	fmt.Fprintf(t.stdout, "Without %s, links of learners to %s end at a page that says so (404).\n", file, peer.Label())
	if !c.Yes {
		if err := t.confirm("Remove it?"); err != nil {
			return err
		}
	}
	if err := os.Remove(file); err != nil {
		return withHint(err, "run the command as an account that may write to "+d.site.PeersDir)
	}
	recorded := d.record("peer remove", audit.Event{Peer: peer.Wwwroot.String()})
	_, err = fmt.Fprintf(t.stdout, "removed %s\n", file)
	return cmp.Or(recorded, err)
}

type peerAcceptCommand struct {
	siteFlags  `embed:""`
	peerFlags  `embed:""`
	trustFlags `embed:""`
	Wwwroot    string `arg:"" placeholder:"WWWROOT" help:"A site among those of jumpgate peer requests."`
}

// Help explains more than fits a line.
func (peerAcceptCommand) Help() string {
	return "Does what peer add does (or peer refresh, if it is a peer with a new key), and insists that the site itself hands out the certificate that the request came with."
}

// Run trusts a site that has asked for it.
func (c peerAcceptCommand) Run(t *terminal) error {
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
	requests, err := d.requests(t.ctx)
	if err != nil {
		return err
	}
	a := &addition{terminal: t, desk: d, answer: answer, command: "peer accept"}
	var likely gateway.Application
	for _, r := range requests {
		if r.Wwwroot == w {
			a.asked, likely = append(a.asked, r), r.Application
		}
	}
	if len(a.asked) == 0 {
		return withHint(fmt.Errorf("%s has not asked", w), "jumpgate peer requests shows who has; jumpgate peer add needs no request")
	}
	if peer := d.site.Peers.Exact(w.String()); peer != nil && peer.Wwwroot == w {
		return a.refresh(peer)
	}
	return a.run(w, c.peerFlags, applications(likely))
}

// requests returns what sites have asked for, newest first.
func (d *desk) requests(ctx context.Context) ([]store.Request, error) {
	state, err := d.shared()
	if err != nil {
		return nil, err
	}
	requests, err := state.Requests(ctx)
	if err != nil {
		return nil, withHint(err, "the command asks the gateway's own Redis, which must answer")
	}
	return requests, nil
}
