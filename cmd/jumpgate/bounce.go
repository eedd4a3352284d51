package main

import (
	"jumpgate/gateway/config"
	"jumpgate/sp"
)

// bounces returns what takes learners home who are not logged in, or nil.
func bounces(s *config.Site, homes *sp.Homes) *sp.Bounces {
	if s.Bounce == config.BounceOff || s.MNet.Off {
		return nil
	}
	return &sp.Bounces{Homes: homes, Auto: s.Bounce == config.BounceAuto, Other: s.Landing.By == config.LandingJWT}
}
