"""The module http: a bounded request head, then a refusal or a switch. No frames."""
