package idp

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
)

// Methods returns the methods of the service sso_idp that peers may call.
func (p *Provider) Methods() []mnet.Method {
	return append([]mnet.Method{{
		Name:         "auth/mnet/auth.php/user_authorise",
		Service:      gateway.ServiceSSOIDP,
		Call:         p.userAuthorise,
		MinParams:    2,
		ChecksReplay: true,
	}}, slices.Concat(p.sessionMethods(), p.reportMethods())...)
}

// userAuthorise redeems a token: it tells the peer whom it was made for
// (protocol page, section 5.3), whose session there begins with that. The
// token is gone afterwards, whether the peer and the browser were the right
// ones or not.
func (p *Provider) userAuthorise(ctx context.Context, call *mnet.Call) (mnet.Value, error) {
	start, token, userAgent := time.Now(), call.Param(0), call.Param(1)
	grant, err := p.Store.Redeem(ctx, call.Nonce, token, store.Redeemer{
		Peer: call.Peer.Wwwroot, Aliases: call.Peer.Aliases, UserAgent: userAgent, Life: p.SessionTimeout,
	})
	reason, answer := refusal(err)
	if p.Redeemed != nil {
		r := Redemption{
			Peer: call.Peer, Addr: call.Addr, Token: token, Username: grant.User.Username, Err: err, Reason: reason, Took: time.Since(start),
		}
		if failed := p.Redeemed(ctx, r); failed != nil {
			return nil, failed
		}
	}
	if answer != nil {
		return nil, answer
	}
	if grant.Again && call.Peer.Application == gateway.Moodle && call.Peer.Subscribes(gateway.ServiceSSOSP) {
		p.forgetFormer(ctx, call, grant)
	}
	return p.userStruct(call.Peer, grant.User, grant.Picture), nil
}

// refusal returns why a token is not redeemed, in a word, and what the peer is
// answered.
func refusal(err error) (reason string, answer error) {
	fault := noSession
	switch {
	case err == nil:
		return "", nil
	case errors.Is(err, store.ErrReplayed):
		return mnet.ReasonReplay, mnet.ErrReplayed
	case errors.Is(err, store.ErrNoToken):
		reason = "token-unknown"
	case errors.Is(err, store.ErrTokenExpired):
		fault, reason = timedOut, "token-expired"
	case errors.Is(err, store.ErrOtherPeer):
		reason = "token-of-another-peer"
	case errors.Is(err, store.ErrOtherBrowser):
		reason = "token-of-another-browser"
	case errors.Is(err, store.ErrLoggedOut):
		reason = "token-after-logout"
	default:
		return mnet.ReasonFailed, err
	}
	return reason, fault(reason)
}

// Redemption is what became of a token that a peer has shown.
type Redemption struct {
	Peer     *gateway.Peer
	Addr     netip.Addr
	Token    string // a secret, even if it is burnt now
	Username string // of whom it was made for; empty if Err is not nil
	Err      error  // as of store.Site.Redeem
	Reason   string // Err in a word, as the log has it
	Took     time.Duration
}

// formerTime bounds what a landing waits for a peer to forget the one before.
const formerTime = 3 * time.Second

// forgetFormer ends a learner's former session at a peer before a new one
// begins: a Moodle keeps one row for each user, home and browser, and does not
// note there that a later landing has another session (source:
// update_mnet_session in auth/mnet/auth.php), so that no logout would reach it.
// Where that fails, the learner lands all the same.
func (p *Provider) forgetFormer(ctx context.Context, call *mnet.Call, g store.Grant) {
	ctx, cancel := context.WithTimeout(ctx, formerTime)
	defer cancel()
	if _, err := p.Call(ctx, call.Peer, killChild, g.User.Username, g.UserAgent); err != nil {
		call.Note("former-session-stays", err)
	}
}

// noSession and timedOut are the faults of user_authorise (protocol page,
// section 8), with Moodle's words. The reason is for our log alone.
func noSession(reason string) *mnet.Fault {
	return &mnet.Fault{Code: mnet.FaultNoSession, String: "Authorisation failed: the mnet session does not exist.", Reason: reason}
}

func timedOut(reason string) *mnet.Fault {
	return &mnet.Fault{Code: mnet.FaultSessionTimedOut, String: "Authorisation failed: the mnet session has timed out.", Reason: reason}
}

// userStruct returns what a peer learns about a learner (protocol page,
// section 6), in the order in which Moodle sends it. A picture is promised by
// its time, and fetched if the peer's copy is older. Moodle does not tell when a
// picture was taken up, so that is when it was first seen here; nor its type,
// which is that of all pictures in Moodle 2.0 and later, and which peers ignore.
func (p *Provider) userStruct(peer *gateway.Peer, u gateway.User, picture store.Picture) mnet.Struct {
	s := mnet.Struct{
		{Name: "auth", Value: "mnet"},
		{Name: "username", Value: u.Username},
		{Name: "firstname", Value: u.FirstName},
		{Name: "lastname", Value: u.LastName},
		{Name: "email", Value: u.Email},
	}
	for _, m := range []mnet.Member{
		{Name: "city", Value: u.City},
		{Name: "country", Value: u.Country},
		{Name: "lang", Value: u.Lang},
		{Name: "timezone", Value: u.Timezone},
		{Name: "picture", Value: u.Picture},
		{Name: "description", Value: u.Description},
		{Name: "mailformat", Value: u.MailFormat},
		{Name: "maildigest", Value: u.MailDigest},
		{Name: "maildisplay", Value: u.MailDisplay},
	} {
		// An identity source that does not know a field must not blank
		// it at the peer.
		if m.Value != "" && peer.Exports(m.Name) {
			s = append(s, m)
		}
	}
	s = append(s,
		mnet.Member{Name: "wwwroot", Value: p.Site.String()},
		mnet.Member{Name: "session.gc_maxlifetime", Value: strconv.Itoa(int(p.SessionTimeout / time.Second))})
	if picture.UserID != 0 && peer.Exports("picture") {
		s = append(s,
			mnet.Member{Name: "_mnet_userpicture_timemodified", Value: strconv.FormatInt(picture.Since.Unix(), 10)},
			mnet.Member{Name: "_mnet_userpicture_mimetype", Value: "image/png"})
	}
	return append(s, mnet.Member{Name: "myhosts", Value: mnet.Array{}})
}
