package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
)

// learner returns the home of the learner whom a site, or their mail address,
// calls name, and their username there; empty if only the address is known.
func (d *desk) learner(ctx context.Context, name string) (home *gateway.Peer, username string, err error) {
	name = strings.ToLower(name) // as usernames are, and addresses may be
	if d.site.Landing.Redeems() {
		home, username = d.site.Landing.Names.HomeOf(d.site.Peers, name)
	}
	var listed *gateway.Peer
	said := false
	if homes := d.site.Mail.Homes; homes != nil {
		listed, said = homes.Home(name)
	}
	switch {
	case home != nil && said && listed != home:
		return nil, "", withHint(fmt.Errorf("%s may be two people: an account of a learner of %s, and who has that mail address", strconv.Quote(name), home.Wwwroot),
			"say which home is meant with --home")
	case said && listed == nil:
		return nil, "", withHint(fmt.Errorf("%s is at home at %s itself", strconv.Quote(name), d.site.Wwwroot), "give them the address of the page: it is no jump")
	case home == nil && said:
		home = listed
	case home == nil:
		if home, err = d.learnedHome(ctx, name); err != nil {
			return nil, "", err
		}
	}
	if home == nil {
		return nil, "", withHint(fmt.Errorf("the home of %s is not known", strconv.Quote(name)), d.learnerHint())
	}
	if rule := home.Standing(time.Now()); rule != gateway.RuleOK {
		return nil, "", withHint(fmt.Errorf("the home of %s is %s, through which nobody jumps now (%s)", strconv.Quote(name), home.Wwwroot, rule),
			"jumpgate peer list shows who is switched off or over")
	}
	home, err = d.throughHome(home.Wwwroot.String())
	return home, username, err
}

// learnedHome returns the home from which somebody with a mail address has come,
// if the site learns that and its Redis can be asked, or nil.
func (d *desk) learnedHome(ctx context.Context, address string) (*gateway.Peer, error) {
	if d.state == nil {
		return nil, nil
	}
	learned := learnedBy(d.site, d.keys, d.state)
	if learned == nil {
		return nil, nil
	}
	home, err := learned.HomeOf(ctx, address)
	return home, withHint(err, "is Redis up? with --home it is not needed")
}

// learnerHint says whose home is known.
func (d *desk) learnerHint() string {
	var known []string
	i := slices.IndexFunc(d.site.Peers.Peers(), func(p *gateway.Peer) bool { return p.Subscribes(gateway.ServiceSSOIDP) })
	if d.site.Landing.Redeems() && i >= 0 {
		names := d.site.Landing.Names
		if example, err := names.Of(d.site.Peers.Peers()[i].Wwwroot, "bob"); err == nil {
			known = append(known, fmt.Sprintf("an account of a learner here (%s: %s)", names, example))
		}
	}
	known = append(known, "a mail address that mail: {homes: …} has")
	switch {
	case len(d.site.Mail.Learn) == 0 || d.site.MNet.Off:
	case d.state == nil:
		known = append(known, "with a Redis of its own instead of the embedded one, an address that was learned from a landing")
	default:
		known = append(known, "an address that was learned from a landing at one of mail: {learn: …}")
	}
	return "give " + strings.Join(known, ", or ") + "; or name the home with --home"
}
