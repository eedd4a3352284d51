package config

import (
	"slices"

	"jumpgate/gateway"
)

// bounce reads what becomes of learners who are not logged in. The peers of the
// site are read already.
func (o object) bounce(s *Site) {
	s.Bounce = o.choice("bounce", BounceOff, BounceOff, BounceChoose, BounceAuto)
	switch {
	case s.Bounce == BounceOff || s.Peers == nil:
	case s.MNet.Off:
		o.warnf(o.place("bounce"), "\"bounce\" does nothing while MNet is switched off")
	case !slices.ContainsFunc(s.Peers.Peers(), func(p *gateway.Peer) bool { return p.IsHome() && p.Application == gateway.Moodle }):
		o.warnf(o.place("bounce"), "\"bounce\" does nothing: no peer is a home; a Moodle whose learners come here has publish: [%s] and subscribe: [%s]",
			gateway.ServiceSSOSP, gateway.ServiceSSOIDP)
	}
}
