package mail

import (
	"context"
	"fmt"
	"time"

	"jumpgate/gateway"
)

// Homes says at which home people are, by their mail addresses.
type Homes struct {
	// Known is what the configuration says; nil if it says nothing.
	Known *gateway.MailHomes

	// Learned is asked about who is not in Known; nil if it is not to be.
	Learned Learned

	Now func() time.Time
}

// Learned knows where people with an address have come from before: learners
// who landed, for instance. It returns nil for who it does not know.
type Learned interface {
	HomeOf(ctx context.Context, address string) (*gateway.Peer, error)
}

// Home returns the home of who has an address, or nil if it is not known or
// nobody jumps there at this time.
func (h *Homes) Home(ctx context.Context, address string) (*gateway.Peer, error) {
	var home *gateway.Peer
	said := false
	if h.Known != nil {
		home, said = h.Known.Home(address)
	}
	if !said && h.Learned != nil {
		var err error
		if home, err = h.Learned.HomeOf(ctx, address); err != nil {
			return nil, fmt.Errorf("the home of a mail address: %w", err)
		}
	}
	if home == nil || home.Standing(h.Now()) != gateway.RuleOK {
		return nil, nil
	}
	return home, nil
}
