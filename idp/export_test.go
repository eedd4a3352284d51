package idp

import "jumpgate/gateway"

// SealForTest seals a session as a jump does.
func SealForTest(s gateway.Secrets, session string, site gateway.Wwwroot, username string) string {
	return s.Seal(session, whose(site, username))
}
