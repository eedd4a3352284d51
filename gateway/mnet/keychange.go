package mnet

import "jumpgate/gateway"

// KeyChange is a key that counts from now on, of a peer or of the site itself.
type KeyChange struct {
	Of   gateway.Wwwroot
	From gateway.Fingerprint // zero if there was none
	To   gateway.Fingerprint
	How  string
}

// How a key comes to count.
const (
	KeyMade      = "made"      // of the site: its first one
	KeyPinned    = "pinned"    // of a peer: fetched for the first time
	KeyRefreshed = "refreshed" // of a peer: the one before vouches for it
	KeyRotated   = "rotated"   // of the site: a new one, or one that an administrator has imported
)

func (p *Pins) changedTo(c KeyChange) {
	if p.Changed != nil {
		p.Changed(c)
	}
}
