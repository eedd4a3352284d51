package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/config"
	"jumpgate/gateway/link"
)

type linkCommand struct {
	Make   linkMakeCommand   `cmd:"" default:"withargs" help:"Print a link that takes learners of a home to a page of the site, logged in."`
	Revoke linkRevokeCommand `cmd:"" help:"Take signed links back, at the home that they lead through."`
}

type linkMakeCommand struct {
	siteFlags `embed:""`
	Home      string `placeholder:"WWWROOT" help:"The home of the learners: a peer of the site."`
	Sign      bool   `help:"Sign the link with the MNet key of the site."`
	User      string `placeholder:"NAME" help:"Instead of --home, whose home is meant: the account that a learner has at the site, or a mail address of which the home is known. With --home and --sign, a username there. A signed link is then for them: they alone are not asked whether they mean it."`
	Expires   string `placeholder:"TIME" help:"For how long the signature is good: 30d, 12h (30d). Homes accept up to 90d unless they say otherwise."`
	URL       string `arg:"" name:"url" help:"A page of the site: its whole address, or the path below the wwwroot."`
}

// Help explains more than fits a line.
func (linkMakeCommand) Help() string {
	return "Nobody is asked, and the link can be made on any machine with the site's state directory. A signed link is good for any number of clicks until it expires; jumpgate link revoke takes it back."
}

// Run prints the link.
func (c linkMakeCommand) Run(t *terminal) error {
	switch {
	case c.Home == "" && c.User == "":
		return &usageError{"missing flags: --home or --user", "say through which home the link leads, or whose home that is"}
	case c.Home != "" && c.User != "" && !c.Sign:
		return &usageError{"a link without a signature is for everybody", "give --sign with --home and --user, or only one of these"}
	case c.Expires != "" && !c.Sign:
		return &usageError{"--expires: a link without a signature does not expire", "give --sign too, or leave it out"}
	}
	life, err := lifeOf(cmp.Or(c.Expires, "30d"))
	if err != nil {
		return err
	}
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	home, username, err := c.through(t, d)
	if err != nil {
		return err
	}
	page, err := d.page(c.URL)
	if err != nil {
		return err
	}
	address := gateway.JumpLink(home.Wwwroot, home.Application, d.site.Wwwroot, page)
	if c.Sign {
		expires := time.Now().Add(life)
		if address, err = c.signed(d, address, home, page, username, expires); err != nil {
			return err
		}
		c.warn(t, username, expires)
	}
	_, err = fmt.Fprintln(t.stdout, address)
	return err
}

// through returns the home through which the link leads, and the username there
// of who it is for; empty for everybody.
func (c linkMakeCommand) through(t *terminal, d *desk) (home *gateway.Peer, username string, err error) {
	if c.Home == "" {
		return d.learner(t.ctx, c.User)
	}
	// Usernames have no capital letters, whatever a list of them says.
	home, err = d.throughHome(c.Home)
	return home, strings.ToLower(c.User), err
}

// warn says what a signed link is not.
func (c linkMakeCommand) warn(t *terminal, username string, expires time.Time) {
	if early := time.Until(expires) - config.DefaultMaxLinkLife; early > 0 {
		fmt.Fprintf(t.stderr, "jumpgate: warning: unless max_link_life of the home is more than %dd, the link counts there as one without a signature until %s\n",
			config.DefaultMaxLinkLife/(24*time.Hour), time.Now().Add(early).UTC().Format(time.DateOnly))
	}
	if c.User != "" && username == "" {
		fmt.Fprintf(t.stderr, "jumpgate: note: the link is signed for everybody: which username %s has at home is not known\n", strconv.Quote(c.User))
	}
}

func (c linkMakeCommand) signed(d *desk, address string, home *gateway.Peer, page gateway.Target, username string, expires time.Time) (string, error) {
	if d.site.Issuer == config.IssuerMoodle && d.site.KeyFile == "" {
		return "", withHint(errors.New("with issuer: moodle the MNet key of the site is Moodle's, and we do not have it"),
			"name it as key:, or leave out --sign")
	}
	token, id, err := link.Sign(d.keys.Current(), link.Link{
		Site: d.site.Wwwroot, Home: home.Wwwroot, Page: page, Username: username, Expires: expires,
	})
	if err != nil {
		return "", err
	}
	return gateway.Signed(address, token), d.record("link --sign", audit.Event{
		User: username, Peer: home.Wwwroot.String(), Target: page.String(), Link: id, Detail: "until " + expires.UTC().Format(time.RFC3339),
	})
}

// page returns the page of the site that an argument names.
func (d *desk) page(address string) (gateway.Target, error) {
	site := &gateway.Peer{Wwwroot: d.site.Wwwroot, Aliases: d.site.Aliases, Application: gateway.Moodle}
	page, rule := gateway.ParseTarget(site, address)
	if rule != gateway.RulePath && rule != gateway.RulePeerURL {
		return page, withHint(fmt.Errorf("%q is not a page of %s (%s)", address, d.site.Wwwroot, rule),
			"give the address of one of its pages, or a path that begins with a slash")
	}
	return page, nil
}

const maxLinkDays = 400

// lifeOf reads a length of time, in days too.
func lifeOf(text string) (time.Duration, error) {
	life, err := time.ParseDuration(text)
	if number, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		n, err = strconv.Atoi(number)
		life = time.Duration(min(n, maxLinkDays+1)) * 24 * time.Hour
	}
	if err != nil || life < time.Second || life > maxLinkDays*24*time.Hour {
		return 0, &usageError{fmt.Sprintf("--expires: %q is not a length of time up to %dd", text, maxLinkDays), "write 30d or 12h"}
	}
	return life, nil
}

type linkRevokeCommand struct {
	siteFlags `embed:""`
	Links     []string `arg:"" name:"link" help:"A signed link, its token, or its id (jti) as the log has it."`
}

// Help explains more than fits a line.
func (linkRevokeCommand) Help() string {
	return "Run it where the link leads through, at the learners' home; it needs the gateway's Redis. A link that is revoked counts as one without a signature."
}

const revokeHint = "give the whole link, in quotes, or its id as the log has it (link=…)"

// revokeTime bounds what the command waits for Redis.
const revokeTime = 10 * time.Second

// Run takes back one link after the other.
func (c linkRevokeCommand) Run(t *terminal) error {
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	state, err := d.shared()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.ctx, revokeTime)
	defer cancel()
	for _, text := range c.Links {
		// A link that ends too late to be accepted today will be accepted one
		// day, and another one with the same id may end earlier.
		now := time.Now()
		id, until := strings.TrimPrefix(text, "link="), now.Add(maxLinkDays*24*time.Hour)
		if strings.ContainsAny(text, ".?") {
			ends := time.Time{}
			if id, ends, err = link.Read(text); err != nil {
				return withHint(err, revokeHint)
			}
			if ends.Before(now) || ends.After(until) {
				until = ends
			}
		} else if !link.WellFormedID(id) {
			return withHint(fmt.Errorf("%s is no id of a link", strconv.QuoteToASCII(id)), revokeHint)
		}
		if err := state.RevokeLink(ctx, id, until); err != nil {
			return withHint(err, "is Redis up? a link that has expired need not be revoked")
		}
		if err := d.record("link revoke", audit.Event{Link: id, Detail: "until " + until.UTC().Format(time.RFC3339)}); err != nil {
			return err
		}
		fmt.Fprintf(t.stdout, "%s is revoked until %s\n", strconv.QuoteToASCII(id), until.UTC().Format(time.RFC3339))
	}
	if d.site.Unsigned == gateway.UnsignedAllow && !slices.ContainsFunc(d.site.Peers.Peers(), func(p *gateway.Peer) bool { return p.RequireSigned }) {
		fmt.Fprintf(t.stderr, "jumpgate: note: %s lets unsigned jumps pass (unsigned_jumps: allow), so the link goes on to work as one without a signature\n", d.site.Wwwroot)
	}
	return nil
}
