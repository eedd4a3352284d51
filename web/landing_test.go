package web_test

import (
	"net/http"
	"net/netip"
	"time"

	"jumpgate/gateway"
	"jumpgate/sp"
)

func landings(site gateway.Wwwroot, peers *gateway.Allowlist, who sp.Source, once sp.Once, address func(*http.Request) netip.Addr) *sp.Landings {
	return &sp.Landings{
		Site: site, Peers: peers, Source: who, Cookie: "MoodleSession", Once: once,
		Seal: func() [][32]byte { return [][32]byte{{5}} }, Client: address, Now: time.Now,
	}
}
