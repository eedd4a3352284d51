package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// TestAPeerThatIsOffOrOverIsNobody asks a whole gateway: nobody jumps there,
// and it is not answered. Others notice nothing.
func TestAPeerThatIsOffOrOverIsNobody(t *testing.T) {
	for rule, field := range map[gateway.Rule]string{gateway.RulePeerOff: "enabled: false", gateway.RulePeerExpired: "expires: 2026-01-31", gateway.RulePath: "expires: 2999-12-31"} {
		t.Run(string(rule), func(t *testing.T) {
			h := newHostile(t, field)
			open := rule == gateway.RulePath
			_, _, fault := h.send(t, h.seal(t, message{from: h.other, by: h.otherKey, at: time.Now(), doc: mnet.EncodeCall("system/listServices")}))
			if unknown := fault != nil && fault.Code == mnet.FaultUnknownPeer; unknown == open {
				t.Errorf("its call is answered with %v", fault)
			}
			v := newVisitor(t).follow(h.IDP+"/login/index.php").login(h.Username, h.Password)
			v.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			v.follow(h.IDP + "/auth/mnet/jump.php?hostwwwroot=" + url.QueryEscape(h.other.String()) + "&wantsurl=/x")
			if told := strings.Contains(v.page, "<dd>"+string(rule)+"</dd>"); told == open {
				t.Errorf("the page says\n%s", v.page)
			}
			newVisitor(t).follow(h.DeepLink).login(h.Username, h.Password).reads(h.scene, h.Username)
		})
	}
}
