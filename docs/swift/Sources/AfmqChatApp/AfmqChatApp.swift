import AfmqChat
import SwiftUI

#if os(macOS)
    import AppKit
#endif

/// An app with one window.
@main
struct AfmqChatApp: App {
    init() {
        #if os(macOS)
            // `swift run` starts an executable without a bundle, which gets no keyboard by default.
            NSApplication.shared.setActivationPolicy(.regular)
        #endif
    }

    var body: some Scene {
        WindowGroup("afmq") { ChatView() }
    }
}
