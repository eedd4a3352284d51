package idp

import "jumpgate/gateway"

// SealForTest seals a session as a jump does.
func SealForTest(s Secrets, session string, site gateway.Wwwroot, username string) string {
	return s.seal(session, whose(site, username))
}
