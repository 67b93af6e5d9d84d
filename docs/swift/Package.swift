// swift-tools-version: 6.2
import PackageDescription

let generation: Target.Dependency = "AfmqGeneration"
let runtime: Target.Dependency = "AfmqRuntime"

#if os(Linux)
    // Apple's frameworks and the tokenizer library are replaced by the modules of Tests/Stubs,
    // which declare what this package uses of them. A build needs no network.
    let coreML: [Target.Dependency] = ["CoreML"]
    let coreAI: [Target.Dependency] = ["CoreAI"]
    let swiftUI: [Target.Dependency] = ["SwiftUI"]
    let tokenizers: Target.Dependency = "Tokenizers"
    let dependencies: [Package.Dependency] = []
    let stubs: [Target] = [
        .target(name: "CoreML", path: "Tests/Stubs/CoreML"),
        .target(
            name: "CoreAI", path: "Tests/Stubs/CoreAI",
            swiftSettings: [.enableExperimentalFeature("Lifetimes")]),
        .target(name: "SwiftUI", path: "Tests/Stubs/SwiftUI"),
        .target(name: "Tokenizers", path: "Tests/Stubs/Tokenizers"),
    ]
#else
    let coreML: [Target.Dependency] = []
    let coreAI: [Target.Dependency] = []
    let swiftUI: [Target.Dependency] = []
    let tokenizers = Target.Dependency.product(name: "Tokenizers", package: "swift-transformers")
    let dependencies: [Package.Dependency] = [
        .package(url: "https://github.com/huggingface/swift-transformers", exact: "1.3.3")
    ]
    let stubs: [Target] = []
#endif

let targets: [Target] = [
    .target(name: "AfmqGeneration"),
    .target(name: "AfmqCoreML", dependencies: [generation] + coreML),
    .target(name: "AfmqCoreAI", dependencies: [generation] + coreAI),
    .target(
        name: "AfmqRuntime",
        dependencies: [generation, "AfmqCoreML", "AfmqCoreAI", tokenizers] + coreML + coreAI),
    .executableTarget(name: "AfmqRun", dependencies: [generation, runtime]),
    .target(name: "AfmqChat", dependencies: [generation, runtime] + swiftUI),
    .executableTarget(name: "AfmqChatApp", dependencies: ["AfmqChat"] + swiftUI),
    .testTarget(name: "AfmqGenerationTests", dependencies: [generation]),
    .testTarget(
        name: "AfmqRunnerTests",
        dependencies: [generation, runtime, "AfmqCoreML", "AfmqCoreAI"] + coreML + coreAI),
]

let package = Package(
    name: "afmq-swift",
    platforms: [.iOS(.v18), .macOS(.v15)],
    products: [
        .library(name: "AfmqRuntime", targets: ["AfmqRuntime", "AfmqGeneration"]),
        .library(name: "AfmqChat", targets: ["AfmqChat"]),
        .executable(name: "afmq-run", targets: ["AfmqRun"]),
        .executable(name: "afmq-chat", targets: ["AfmqChatApp"]),
    ],
    dependencies: dependencies,
    targets: targets + stubs
)
