package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

type peerCommand struct {
	Add      peerAddCommand      `cmd:"" help:"Exchange keys with a site and trust it."`
	List     peerListCommand     `cmd:"" help:"Show the peers and their certificates."`
	Show     peerShowCommand     `cmd:"" help:"Ask a peer and say what is missing on which side."`
	Refresh  peerRefreshCommand  `cmd:"" help:"Take over the new certificate of a peer."`
	Remove   peerRemoveCommand   `cmd:"" help:"Trust a peer no longer."`
	Requests peerRequestsCommand `cmd:"" help:"Show the sites that ask to become a peer."`
	Accept   peerAcceptCommand   `cmd:"" help:"Trust a site that has asked."`
}

// trustFlags answer the question whether a certificate is to be trusted.
type trustFlags struct {
	Yes         bool   `help:"Trust whatever certificate the site hands out over verified TLS, without asking."`
	Fingerprint string `placeholder:"SHA256:…" help:"Trust exactly this certificate, without asking."`
}

// answer is what trustFlags say, checked.
type answer struct {
	yes         bool
	fingerprint gateway.Fingerprint // zero if none is given
}

// check refuses flags that can lead to nothing, before anybody is asked
// anything.
func (f trustFlags) check(t *terminal) (answer, error) {
	a := answer{yes: f.Yes}
	if f.Fingerprint != "" {
		var err error
		if a.fingerprint, err = gateway.ParseFingerprint(f.Fingerprint); err != nil {
			return a, &usageError{"--fingerprint: " + err.Error(), "write it as jumpgate peer add shows it"}
		}
	}
	if !f.Yes && f.Fingerprint == "" && !t.interactive() {
		return a, &usageError{"nobody can be asked: standard input is no terminal",
			"give --fingerprint SHA256:… (safest) or --yes"}
	}
	return a, nil
}

// trusts decides about the certificate that site hands out, and asks if it
// has to. The error says why not.
func (a answer) trusts(t *terminal, site gateway.Wwwroot, cert *gateway.Certificate, question string) error {
	got := cert.Fingerprint()
	switch {
	case !a.fingerprint.IsZero() && a.fingerprint != got:
		return withHint(fmt.Errorf("%s hands out the certificate %s, not %s: nothing was written", site, got, a.fingerprint),
			"ask its administrator which one is right")
	case !a.fingerprint.IsZero():
		return nil
	case a.yes && site.Scheme() != "https" && !site.Loopback():
		return withHint(fmt.Errorf("%s has no TLS: anybody could have handed out that certificate, so --yes is not enough", site),
			"compare the fingerprint with its administrator and give it with --fingerprint")
	case a.yes:
		return nil
	}
	return t.confirm(question)
}

// interactive reports whether a person can be asked.
func (t *terminal) interactive() bool {
	f, ok := t.stdin.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull) // a character device as well
	return err != nil || !os.SameFile(info, null)
}

// confirm asks a question and returns errQuiet unless the answer is yes.
func (t *terminal) confirm(question string) error {
	fmt.Fprintf(t.stderr, "%s [y/N] ", question)
	line := make(chan string, 1)
	go func() { // ends with the process at the latest: nothing wakes a read
		text, _ := bufio.NewReader(t.stdin).ReadString('\n')
		line <- text
	}()
	select {
	case text := <-line:
		switch strings.ToLower(strings.TrimSpace(text)) {
		case "y", "yes":
			return nil
		}
	case <-t.ctx.Done():
	}
	fmt.Fprintln(t.stderr, "jumpgate: nothing was changed")
	return errQuiet
}

// askTime bounds what a command waits for a peer.
const askTime = 30 * time.Second

// introduction is what a site says about itself.
type introduction struct {
	wwwroot     gateway.Wwwroot
	name        string // may be empty
	application gateway.Application
	cert        *gateway.Certificate
}

// meet looks at a site and exchanges keys with it, as one of the applications:
// the first that answers.
func (d *desk) meet(ctx context.Context, w gateway.Wwwroot, applications ...gateway.Application) (introduction, error) {
	met := introduction{wwwroot: w}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var err error
	if met.name, err = d.caller.Client.Title(ctx, w); err != nil {
		return met, inWords(err, w, d.site.Wwwroot)
	}
	var errs []error
	for _, met.application = range applications {
		if met.cert, err = d.caller.Client.Keyswap(ctx, w, met.application); err == nil {
			return met, nil
		}
		errs = append(errs, inWords(fmt.Errorf("as %s: %w", met.application, err), w, d.site.Wwwroot))
	}
	return met, errors.Join(errs...)
}

// pinned returns the certificate that is pinned for a peer, without asking the
// peer for one.
func (d *desk) pinned(ctx context.Context, peer *gateway.Peer) (*gateway.Certificate, error) {
	look := &mnet.Pins{Dir: d.caller.Pins.Dir, Fetch: notFetched, Chains: d.caller.Pins.Chains}
	return look.Certificate(ctx, peer)
}

func notFetched(context.Context, *gateway.Peer) (*gateway.Certificate, error) {
	return nil, errors.New("none is pinned yet")
}

// author says who writes a file, for the comments in it.
func author(command string) string {
	return fmt.Sprintf("%s UTC, jumpgate %s, run by %s", time.Now().UTC().Format("2006-01-02 15:04"), command, account())
}

// account names the account that runs a command.
func account() string {
	if u, err := user.Current(); err == nil {
		return strconv.Quote(u.Username)
	}
	return "an unknown account"
}

// expiry tells when a certificate ends.
func expiry(cert *gateway.Certificate) string {
	day := cert.NotAfter.UTC().Format(time.DateOnly)
	if time.Now().After(cert.NotAfter) {
		return day + " (expired; the pinned key is good until the peer makes another)"
	}
	return day
}
