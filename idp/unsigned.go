package idp

import (
	"net/http"

	"jumpgate/gateway"
)

// unsigned returns the rule that refuses a jump for want of a good signature of
// its link, or RuleOK.
func (p *Provider) unsigned(a Answer) gateway.Rule {
	switch {
	case a.Refused || a.Location != "" || a.Signature.Intact() || !p.needsSignature(a):
		return gateway.RuleOK
	case a.Signature.Rule == "":
		return gateway.RuleUnsigned
	}
	return a.Signature.Rule
}

func (p *Provider) needsSignature(a Answer) bool {
	return a.Peer.RequireSigned || p.Unsigned == gateway.UnsignedRefuse && a.Origin.Foreign()
}

// asks reports whether the learner has to be asked about a jump, unless its
// link was signed for them.
func (p *Provider) asks(a Answer) bool {
	return a.Origin.Foreign() && (p.Unsigned == gateway.UnsignedConfirm || p.Unsigned == gateway.UnsignedRefuse)
}

// meant finds out whether a jump is what the learner means and not a foreign
// page's trick: it is by their own click, by a link that the peer has signed for
// them, or because they say so. A signature that this depends on must not be
// revoked, which costs a round trip; nothing else does.
func (p *Provider) meant(r *http.Request, a Answer, session string, who gateway.Identity) Answer {
	asks, addressed := p.asks(a), a.Signature.For(who.User.Username, p.names...)
	if a.Signature.Intact() && (p.needsSignature(a) || asks && addressed) {
		revoked, err := p.Store.LinkRevoked(r.Context(), a.Signature.ID)
		if err != nil {
			a.Err = err
			return a
		}
		if revoked {
			a.Signature.Rule, addressed = gateway.RuleSignatureRevoked, false
		}
	}
	if rule := p.unsigned(a); rule != gateway.RuleOK {
		return a.refuse(rule)
	}
	if asks && !addressed && !a.confirmed && !p.remembers(r, a.Peer, who.User.Username) {
		a = p.confirm(a, session, who.User)
	}
	return a
}
