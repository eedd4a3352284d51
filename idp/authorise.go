package idp

import (
	"context"
	"crypto/subtle"
	"errors"
	"strconv"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
)

// Methods returns the methods of the service sso_idp that peers may call.
func (p *Provider) Methods() []mnet.Method {
	return []mnet.Method{{
		Name:         "auth/mnet/auth.php/user_authorise",
		Service:      gateway.ServiceSSOIDP,
		Call:         p.userAuthorise,
		MinParams:    2,
		ChecksReplay: true,
	}}
}

// userAuthorise redeems a token: it tells the peer whom it was made for
// (protocol page, section 5.3). The token is gone afterwards, whether the
// peer and the browser were the right ones or not.
func (p *Provider) userAuthorise(ctx context.Context, call *mnet.Call) (mnet.Value, error) {
	token, userAgent := call.Param(0), call.Param(1)
	grant, err := p.Store.Redeem(ctx, call.Nonce, token)
	switch {
	case errors.Is(err, store.ErrReplayed):
		return nil, mnet.ErrReplayed
	case errors.Is(err, store.ErrNoToken):
		return nil, noSession("token-unknown")
	case errors.Is(err, store.ErrTokenExpired):
		return nil, timedOut("token-expired")
	case err != nil:
		return nil, err
	case !call.Peer.Is(grant.Peer): // it may have been minted before the peer moved
		return nil, noSession("token-of-another-peer")
	case subtle.ConstantTimeCompare([]byte(grant.UserAgent), []byte(userAgent)) != 1:
		return nil, noSession("token-of-another-browser")
	}
	return p.userStruct(call.Peer, grant.User), nil
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
// section 6), in the order in which Moodle sends it. Pictures are not served
// yet, so none is promised.
func (p *Provider) userStruct(peer *gateway.Peer, u gateway.User) mnet.Struct {
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
	return append(s,
		mnet.Member{Name: "wwwroot", Value: p.Site.String()},
		mnet.Member{Name: "session.gc_maxlifetime", Value: strconv.Itoa(int(p.SessionTimeout / time.Second))},
		mnet.Member{Name: "myhosts", Value: mnet.Array{}})
}
