package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	netmail "net/mail"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/sp/mail"
)

type mailCommand struct {
	siteFlags `embed:""`
	To        []string `sep:"none" placeholder:"ADDRESS" help:"Who gets the mail, as the mail server knows; repeatable. Without it, the one address of the field To."`
	Home      string   `placeholder:"WWWROOT" help:"The home of who gets it, whatever the configuration says: a peer of the site."`
}

// Help explains more than fits a line.
func (mailCommand) Help() string {
	return "Reads one mail from standard input and writes it to standard output, with the links to the site changed into jump links of the home that mail: {homes: …} has for the recipients. Whatever goes wrong, the mail comes out as it went in, and the exit code is 1: several recipients with different homes, for instance, since one mail cannot have the links of two. " +
		"It is 75 (try again later) if the mail could not be read or written to its end."
}

// exitTempfail is EX_TEMPFAIL of sysexits.h: mail servers keep the mail and
// try again.
const exitTempfail = 75

// Run is the filter. Nothing is kept anywhere, so it needs no state directory.
func (c mailCommand) Run(t *terminal) error {
	in := bufio.NewReaderSize(t.stdin, maxMailHead)
	rewriter, err := c.rewriter(t, in)
	if err != nil || rewriter == nil {
		if _, copyErr := io.Copy(t.stdout, in); copyErr != nil {
			return &exitError{withHint(fmt.Errorf("the mail was not passed on: %w", copyErr), "keep it, and try again"), exitTempfail}
		}
		return err
	}
	result, err := rewrite(rewriter, t.stdout, in)
	switch {
	case err != nil:
		return &exitError{withHint(err, "keep the mail, and try again"), exitTempfail}
	case result.Untouched == mail.UntouchedSigned:
		fmt.Fprintln(t.stderr, "jumpgate: warning: the mail is signed (DKIM or ARC) and was left as it was: let it be signed after its links are changed")
	case result.Untouched != "":
		fmt.Fprintf(t.stderr, "jumpgate: warning: the mail was left as it was: %s\n", result.Untouched)
	}
	return nil
}

// rewrite is the last place to notice that we are wrong ourselves: a mail server
// that is told anything but "try again" may give the mail up.
func rewrite(w *mail.Rewriter, out io.Writer, in io.Reader) (result mail.Result, err error) {
	defer func() {
		if wrong := recover(); wrong != nil {
			err = fmt.Errorf("changing the links of the mail: %v", wrong)
		}
	}()
	return w.Rewrite(out, in)
}

// rewriter returns what rewrites the mail, or nil if nobody's home is known.
func (c mailCommand) rewriter(t *terminal, in *bufio.Reader) (*mail.Rewriter, error) {
	loaded, err := config.Load(c.Config)
	if err != nil {
		return nil, err
	}
	site, err := c.pick(loaded)
	if err != nil {
		return nil, err
	}
	if c.Home != "" {
		home, err := (&desk{site: site}).throughHome(c.Home)
		if err != nil {
			return nil, err
		}
		return mail.NewRewriter(site.Wwwroot, site.Aliases, home), nil
	}
	if site.Mail.Homes == nil {
		fmt.Fprintf(t.stderr, "jumpgate: warning: the configuration has no mail: {homes: …} for %s: nobody's home is known\n", site.Wwwroot)
	}
	to := c.To
	if len(to) == 0 {
		if to, err = toField(in); err != nil {
			return nil, withHint(err, "say who gets it with --to")
		}
	}
	home, err := oneHome(t.ctx, mailHomes(site), to)
	if err != nil || home == nil {
		return nil, err
	}
	return mail.NewRewriter(site.Wwwroot, site.Aliases, home), nil
}

// mailHomes returns what the configuration says of homes: nothing while nobody
// may land.
func mailHomes(s *config.Site) *mail.Homes {
	if s.MNet.Off {
		return &mail.Homes{Now: time.Now}
	}
	return &mail.Homes{Known: s.Mail.Homes, Now: time.Now}
}

// oneHome returns the home of all who get a mail, or nil if none of them has
// one that is known.
func oneHome(ctx context.Context, homes *mail.Homes, to []string) (*gateway.Peer, error) {
	var first *gateway.Peer
	for i, address := range to {
		home, err := homes.Home(ctx, address)
		if err != nil {
			return nil, err
		}
		if i > 0 && home != first {
			return nil, withHint(errors.New("the recipients have different homes, and the links of one mail lead through one"),
				"let the mail server run the filter for each recipient (Postfix: default_destination_recipient_limit=1), or use the relay")
		}
		first = home
	}
	return first, nil
}

// maxMailHead is how much of a mail is looked at for the field To.
const maxMailHead = 64 << 10

// toField returns the only address of the field To, and leaves the mail in the
// reader.
func toField(in *bufio.Reader) ([]string, error) {
	head, _ := in.Peek(maxMailHead)
	if rest, ok := bytes.CutPrefix(head, []byte("From ")); ok { // of a mailbox
		_, head, _ = bytes.Cut(rest, []byte("\n"))
	}
	parsed, err := netmail.ReadMessage(bytes.NewReader(head))
	if err != nil {
		return nil, errors.New("the header of the mail does not say who gets it")
	}
	list, err := netmail.ParseAddressList(strings.Join(parsed.Header["To"], ","))
	if err != nil || len(list) != 1 {
		return nil, fmt.Errorf("the field To of the mail has %d addresses, not one", len(list))
	}
	return []string{list[0].Address}, nil
}
