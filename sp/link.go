// Package sp is the service-provider role: what a site does for learners
// whose home is somewhere else.
package sp

import (
	"net/url"

	"jumpgate/gateway"
)

// JumpLink returns the address that takes a learner of home to a page of
// site, logged in (protocol page, section 7): the link that a forum mail
// carries. The page's fragment travels inside wantsurl, escaped, and survives
// every redirect on the way.
func JumpLink(home *gateway.Peer, site gateway.Wwwroot, page gateway.Target) string {
	return home.Wwwroot.String() + home.Application.JumpPath() +
		"?hostwwwroot=" + url.QueryEscape(site.String()) +
		"&wantsurl=" + url.QueryEscape(page.String())
}
