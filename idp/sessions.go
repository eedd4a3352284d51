package idp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
)

const (
	noRemoteSessions = "Could find no remote sessions\n" // Moodle's words

	killChild = "auth/mnet/auth.php/kill_child"
	// homeTime bounds what a peer waits for: it sends the browser here next.
	homeTime = 10 * time.Second
)

// sessionMethods are the methods of sso_idp about sessions (protocol page,
// sections 5.3 and 7).
func (p *Provider) sessionMethods() []mnet.Method {
	return []mnet.Method{
		{Name: "auth/mnet/auth.php/keepalive_server", Service: gateway.ServiceSSOIDP, MinParams: 1, Call: p.keepaliveServer},
		{Name: "auth/mnet/auth.php/kill_children", Service: gateway.ServiceSSOIDP, MinParams: 2, Call: p.killChildren},
	}
}

// keepaliveServer extends the sessions of learners who are busy at the peer,
// those there alone (a Moodle extends those at all peers), and where that is
// wanted their sessions at home.
func (p *Provider) keepaliveServer(ctx context.Context, call *mnet.Call) (mnet.Value, error) {
	list, _ := call.Params[0].(mnet.Array)
	var usernames []string
	for _, name := range list {
		usernames = append(usernames, mnet.Text(name))
	}
	extended, err := p.extend(ctx, call.Peer, usernames)
	if err != nil {
		return nil, err
	}
	if len(extended.Unknown) > 0 {
		call.Note(reasonNotTheirs, fmt.Errorf("%d of %d learners had no session there lately, such as %.100q", len(extended.Unknown), len(usernames), extended.Unknown[0]))
	}
	if p.Touch != nil {
		if err := p.touch(ctx, extended.Live); err != nil {
			call.Note("home-not-touched", err)
		}
	}
	code, message := 0, "All ok"
	if missing := append(extended.Lapsed, extended.Unknown...); len(missing) > 0 {
		code = 1
		message = "We failed to refresh the session for the following usernames: \n" + strings.Join(missing, "\n") + "\n\n"
	}
	return mnet.Struct{{Name: "code", Value: code}, {Name: "message", Value: message}, {Name: "last log id", Value: "0"}}, nil
}

// extend extends the sessions of learners at a peer, under all of its names: some may
// have begun before it moved, and others since.
func (p *Provider) extend(ctx context.Context, peer *gateway.Peer, usernames []string) (all store.Extended, err error) {
	names := peer.Names()
	lapsed, without := map[string]bool{}, map[string]int{} // under how many of them a learner has none that lives
	for _, name := range names {
		e, err := p.Store.ExtendPeerSessions(ctx, name, usernames, p.SessionTimeout, p.Touch != nil)
		if err != nil {
			return all, err
		}
		all.Live = append(all.Live, e.Live...)
		for _, learner := range e.Lapsed {
			lapsed[learner] = true
		}
		for _, learner := range append(e.Lapsed, e.Unknown...) {
			switch without[learner]++; {
			case without[learner] < len(names):
			case lapsed[learner]:
				all.Lapsed = append(all.Lapsed, learner)
			default:
				all.Unknown = append(all.Unknown, learner)
			}
		}
	}
	return all, nil
}

// touch keeps the sessions at home alive to which sessions belong.
func (p *Provider) touch(ctx context.Context, sessions []store.PeerSession) error {
	var homes []moodle.Owned
	seen := map[moodle.Owned]bool{}
	var errs []error
	for _, s := range sessions {
		if home, err := p.home(s); err != nil {
			errs = append(errs, err)
		} else if !seen[home] {
			seen[home] = true
			homes = append(homes, home)
		}
	}
	return errors.Join(append(errs, p.Touch(ctx, homes))...)
}

// home opens a session's Moodle session.
func (p *Provider) home(s store.PeerSession) (moodle.Owned, error) {
	session, err := p.Secrets.Open(s.Home, whose(p.Site, s.Username))
	return moodle.Owned{Session: session, UserID: s.UserID}, err
}

// killChildren ends the sessions of a browser that logs out at the peer: those
// at the other peers, and the one at home. The peer has ended its own. The
// text is Moodle's.
func (p *Provider) killChildren(ctx context.Context, call *mnet.Call) (mnet.Value, error) {
	username, userAgent := call.Param(0), call.Param(1)
	ended, recent, err := p.endFor(ctx, call.Peer, username, userAgent)
	if err != nil {
		return nil, err
	}
	if len(ended) == 0 {
		if !recent {
			// Or of a landing that Moodle itself has made, in guard mode.
			noteNotTheirs(call, username)
			return nil, &mnet.PassOn{Else: noRemoteSessions}
		}
		return noRemoteSessions, nil
	}
	report := ""
	for _, s := range ended {
		if !call.Peer.Is(s.Peer) {
			p.endChild(s, mnet.CausePeer)
			report += "Deleting session\n"
		} else if err := p.Store.Told(ctx, s); err != nil {
			return nil, err
		}
	}
	p.endHomes(ctx, ended, mnet.CausePeer)
	return report, nil
}

// endFor ends the sessions of a browser at the wish of a peer where it has one, under
// any of its names: it may have begun before the peer moved. If there is none, recent
// reports whether the learner lately had one there in any browser.
func (p *Provider) endFor(ctx context.Context, peer *gateway.Peer, username, userAgent string) (ended []store.PeerSession, recent bool, err error) {
	for _, name := range peer.Names() {
		if ended, err = p.Store.EndPeerSessionsFor(ctx, name, username, userAgent); err != nil || len(ended) > 0 {
			return ended, true, err
		}
		_, lately, err := p.Store.SessionAt(ctx, name, username)
		if err != nil {
			return nil, false, err
		}
		recent = recent || lately
	}
	return nil, recent, nil
}

// EndSessions ends all sessions of a learner at peers, and those at home from
// which they began. Those at peers end in the background.
func (p *Provider) EndSessions(ctx context.Context, username string) error {
	ended, err := p.Store.EndPeerSessions(ctx, username, "")
	for _, s := range ended {
		p.endChild(s, mnet.CauseAdministrator)
	}
	p.endHomes(ctx, ended, mnet.CauseAdministrator)
	return err
}

// homeEnded ends what belongs to a session at home that is over.
func (p *Provider) homeEnded(ctx context.Context, ending store.Ending, cause string) error {
	ended, err := p.Store.EndHomeSession(ctx, ending)
	for _, s := range ended {
		p.endChild(s, cause)
	}
	return err
}

// endChild ends a session at a peer in the background.
func (p *Provider) endChild(s store.PeerSession, cause string) {
	l := mnet.Logout{Site: p.Site, At: s.Peer, Username: s.Username, Cause: cause}
	peer := p.Peers.Exact(s.Peer.String())
	if peer == nil || !peer.Subscribes(gateway.ServiceSSOSP) {
		l.Outcome = mnet.OutcomeNotSubscribed
		p.Children.Observe(l)
		return
	}
	p.Children.End(l, func(ctx context.Context) (mnet.Value, error) {
		// A peer knows no more than user and browser. If Redis cannot say,
		// rather one session too many ends than one too few.
		if again, err := p.Store.LandedAgain(ctx, s); err == nil && again {
			return nil, mnet.ErrLandedAgain
		}
		answer, err := p.Call(ctx, peer, killChild, s.Username, s.UserAgent)
		if err == nil {
			err = p.Store.Told(ctx, s)
		}
		return answer, err
	})
}

// endHomes logs a learner out at home, in the browsers whose sessions these
// are.
func (p *Provider) endHomes(ctx context.Context, sessions []store.PeerSession, cause string) {
	ctx, cancel := context.WithTimeout(ctx, homeTime)
	defer cancel()
	seen := map[string]bool{}
	var all sync.WaitGroup
	for _, s := range sessions {
		home, err := p.home(s)
		if seen[home.Session] {
			continue
		}
		seen[home.Session] = true
		all.Go(func() {
			l := mnet.Logout{Site: p.Site, At: p.Site, Username: s.Username, Cause: cause, Outcome: mnet.OutcomeFailed, Err: err}
			if err != nil { // no key of ours opens it
				p.Children.Observe(l)
				return
			}
			ending := p.Store.Ending(home.Session)
			p.Children.EndNow(ctx, l, func(ctx context.Context) error { return p.endHome(ctx, home, ending, cause) })
		})
	}
	all.Wait()
}

// endHome logs a learner out at home. The proxy does not see that answer, so
// what it would do then is done here.
func (p *Provider) endHome(ctx context.Context, home moodle.Owned, ending store.Ending, cause string) error {
	err := p.Logout(ctx, moodle.Browser{Session: home.Session}, home.UserID)
	if err != nil {
		return err
	}
	if p.forgetter != nil {
		err = p.forgetter.Forget(ctx, home.Session)
	}
	return errors.Join(err, p.homeEnded(ctx, ending, cause))
}
